"""The errors a caller may want to catch. What a caller can fix by itself is a `UserError`."""


class IdmRayError(Exception):
    """Base of all errors that idm_ray raises on purpose."""


class UserError(IdmRayError, ValueError):
    """A wrong option, file or data set: says what was expected, what was found, and the remedy."""


class DataError(UserError):
    """The images or their labels cannot be used as they are."""


class CondensedSetError(UserError):
    """A condensed set's file is damaged, incomplete or of an unknown format."""


class CheckpointError(UserError):
    """A checkpoint is damaged, incomplete or of an unknown format; an older one may be sound."""


class NonFiniteLossError(IdmRayError):
    """A loss became NaN or infinite; names class, model and iteration."""


class ResourceError(UserError):
    """The cluster cannot give what the run asks for; names wanted and available."""


class ActorLostError(IdmRayError):
    """A worker of the run died."""


class StorageError(IdmRayError):
    """A remote store went on failing, or could not be written at the end of a run."""
