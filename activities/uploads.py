"""Removing from S3 what nobody finished uploading or uses any more."""

from temporalio import activity

from core.db import Database
from core.integrations.s3 import ObjectStorage
from domain.contracts.processes import UploadsPurged
from services import uploads


class UploadActivities:
    def __init__(self, db: Database, s3: ObjectStorage) -> None:
        self._db, self._s3 = db, s3

    @activity.defn(name="uploads.purge_abandoned")
    async def purge_abandoned(self) -> UploadsPurged:
        """One pass; what S3 refuses to give up now is met again by the next."""
        return UploadsPurged(count=await uploads.purge_abandoned(self._db, self._s3, activity.info().scheduled_time))
