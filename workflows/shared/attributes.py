"""Search attributes, for operators only. They are never encrypted: no personal data."""

from temporalio.common import SearchAttributeKey

KIND = SearchAttributeKey.for_keyword("LyceumKind")
STATE = SearchAttributeKey.for_keyword("LyceumState")
COURSE = SearchAttributeKey.for_keyword("LyceumCourse")
STUCK_SINCE = SearchAttributeKey.for_datetime("LyceumStuckSince")

ALL = (KIND, STATE, COURSE, STUCK_SINCE)
