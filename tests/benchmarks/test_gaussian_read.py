import torch

from whatwhere.benchmarks import gaussian_read as benchmark
from whatwhere.benchmarks.gaussian_read import GaussianReadBenchmark, Sizes, read_bilinear, read_dense
from whatwhere.benchmarks.gaussian_read import read_floats as read_converted
from whatwhere.models.components.gaussian_read import gaussian_read
from whatwhere.models.components.gaussian_windows import GaussianWindow

SMALL = Sizes(3, 2, (11, 14), (5, 6), torch.uint8)


def test_gaussian_contenders_agree_in_values_and_gradients():
    images = benchmark.frames(SMALL, torch.device("cpu"))
    window = GaussianWindow(
        *(x.detach().double().requires_grad_() for x in benchmark.windows(SMALL, images.device))
    )
    weight, results = torch.randn(3, 2, 5, 6).double(), []
    for read in (gaussian_read, read_converted, read_dense):
        source = images.double() / 255 if read is read_dense else images
        glimpses = read(source, window, SMALL.glimpse)
        results.append((glimpses, *torch.autograd.grad((glimpses * weight).sum(), window)))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-6, atol=1e-6)


def test_bilinear_contender_reads_the_same_positions():
    """Both are exact on a plane."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    images = (3 * x - 2 * y).double().expand(1, 1, 40, 50)
    window = GaussianWindow(*torch.tensor([[[23.4, 19.1]], [[2.3, 1.2]], [[1.2, 1.1]]]).double())
    expected = gaussian_read(images, window, (5, 6), 1e-300)
    torch.testing.assert_close(read_bilinear(images, window, (5, 6)), expected, rtol=0, atol=1e-6)


def test_report_has_every_comparison(monkeypatch):
    monkeypatch.setattr("whatwhere.benchmarks.harness.wait_until_idle", lambda timeout: None)
    small = {"floats": SMALL._replace(stored=torch.float32), "integers": SMALL}
    monkeypatch.setattr(benchmark, "MODELS", small)
    report = benchmark.run(GaussianReadBenchmark(rounds=2, warmup=0))
    assert len(benchmark.table(report).splitlines()) == 2 + 2 * (3 + 4)
    kept = report["results"]["integers"]["forward + backward"]["contenders"]
    assert kept["separable"]["saved_bytes"] < kept["floats first"]["saved_bytes"]


def test_dense_weights_are_left_out_where_they_do_not_fit():
    dense = {name for name, sizes in benchmark.MODELS.items() if "dense" in sizes.implementations()}
    assert dense == {"RATM, balls", "RATM, 2 videos of KTH"}
