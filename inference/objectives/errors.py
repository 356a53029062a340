"""The errors of the objectives: raised before a wrong number could be computed."""


class ObjectiveError(ValueError):
    """A model, a guide and an objective that do not fit together."""


class SiteOutsidePlateError(ObjectiveError):
    """A random variable is not inside the batch plate, so that there is no weight per datum."""


class SiteShapeError(ObjectiveError):
    """The log-probability of a site has dimensions that no plate declares."""


class MissingSiteError(ObjectiveError):
    """Model and guide do not have the same latent variables."""


class UnsupportedSiteError(ObjectiveError):
    """A kind of sample statement for which no exact rule exists here."""


class UnequalScaleError(ObjectiveError):
    """Sites have different scales, so that no single factor can be taken out of the log-weight."""


class TooFewParticlesError(ObjectiveError):
    """The estimator is not defined for so few particles."""


class NoGradientError(ObjectiveError):
    """A guide site is not reparameterised, and the estimator would give it no gradient."""


class BaselineError(ObjectiveError):
    """The `baseline` annotation of a guide site is not understood, or has the wrong shape."""


class PresenceError(ObjectiveError):
    """The presence variables do not allow the number of objects to be summed out."""


class FrameError(ObjectiveError):
    """A random variable is in no frame, or in one of the model and in another of the guide."""


class DreamError(ObjectiveError):
    """The data that a model makes up cannot be given to the guide."""
