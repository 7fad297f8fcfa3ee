"""A script that needs a package which nothing installs, as ControlNet's did on a volume."""

import no_such_package_of_a_stand_in  # noqa: F401
