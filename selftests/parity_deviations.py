# SPDX-License-Identifier: GPL-2.0
"""Where rlvs answers otherwise than mainline, on purpose; docs/deviations.md says the same to users."""

from collections import namedtuple

# In which scenarios and steps (regular expressions that match all of it), and why.
Deviation = namedtuple("Deviation", "scenario step why")

DEVIATIONS = []
