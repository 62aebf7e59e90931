"""The only package that imports Ray: shells around plain classes, and the driver."""

from idm_ray.runtime.environment import prepare_environment

# Here, since no module of this package, and so none that imports Ray, can be imported before.
prepare_environment()
