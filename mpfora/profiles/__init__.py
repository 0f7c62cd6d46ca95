"""Where code has spent its time, and the files and the page that show it. Knows nothing of tasks, nodes and pools,
which all make their profiles here."""

from mpfora.profiles.profile import Profile as Profile
from mpfora.profiles.profile import check_path as check_path
from mpfora.profiles.profile import parse_stacks as parse_stacks

__all__ = ["Profile", "check_path", "parse_stacks"]
