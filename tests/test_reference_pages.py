"""The pages of the reference, as far as they are the project's own making."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs Sphinx: pip install 'whatwhere[docs]'")


@pytest.fixture(scope="module")
def pages():
    file = Path(__file__).parents[1] / "docs/reference_pages.py"
    spec = importlib.util.spec_from_file_location("reference_pages", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("link", "right"),
    [
        # The package is too short, too long, or right; a method.
        (
            "models.components.html#whatwhere.models.compact",
            "models.components.html#whatwhere.models.components.compact",
        ),
        ("models.html#whatwhere.models.components.Slots.z_pres", "models.html#whatwhere.models.Slots.z_pres"),
        ("datasets.html#whatwhere.datasets.load_folder", "datasets.html#whatwhere.datasets.load_folder"),
    ],
)
def test_a_link_from_source_code_leads_to_the_package_of_its_page(pages, link: str, right: str):
    context = {"body": f'<a href="../../reference/{link}">[docs]</a>'}
    pages.lead_back(None, "_modules/whatwhere/models/components/slots", "page.html", context, None)
    assert context["body"] == f'<a href="../../reference/{right}">[docs]</a>'


def test_other_pages_stay_as_they_are(pages):
    body = '<a href="reference/models.components.html#whatwhere.models.compact">'
    context = {"body": body}
    pages.lead_back(None, "new_model", "page.html", context, None)
    assert context["body"] == body
