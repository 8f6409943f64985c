"""Search attributes, for operators only. They are never encrypted: no personal data."""

from temporalio.common import SearchAttributeKey

KIND = SearchAttributeKey.for_keyword("LyceumKind")
STATE = SearchAttributeKey.for_keyword("LyceumState")
COURSE = SearchAttributeKey.for_keyword("LyceumCourse")
STUCK_SINCE = SearchAttributeKey.for_datetime("LyceumStuckSince")

FIRST_STATE = {"order": "pending", "enrollment": "active", "refund": "submitting"}
"""What a process of the kind does when it is started."""

ALL = (KIND, STATE, COURSE, STUCK_SINCE)
