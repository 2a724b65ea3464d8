"""All errors that clients see. Each class has a stable `code` and an HTTP status."""

from __future__ import annotations

from typing import Any

from shared.amounts import in_bytes


class DigitqError(Exception):
    """An expected error. `str(error)` may be shown to the client."""

    code = "internal_error"
    status = 500
    title = "Something went wrong on our side"

    def __init__(self, message: str = "", **extensions: Any) -> None:
        super().__init__(message or self.title)
        #: Further members for the problem document, such as `limit` or `retry_after_seconds`.
        self.extensions = extensions


class SettingsError(DigitqError):
    """A setting is unknown, malformed or out of range: the process refuses to start."""

    code = "bad_settings"
    title = "A setting is wrong"


class CannotStart(DigitqError):
    """`digitq up` or `digitq web` cannot start: another one runs, a folder cannot be written, or the port is in use."""

    code = "cannot_start"
    title = "digitq cannot start"


class MissingPart(DigitqError):
    """A command needs an extra that is not installed."""

    code = "missing_part"
    title = "Not installed"


class ModelError(DigitqError):
    """The model is missing or damaged, or does not match its card."""

    code = "bad_model"
    title = "The model cannot be used"


class DataError(DigitqError):
    """A data file (IDX, labels, index) is malformed."""

    code = "bad_data"
    status = 422
    title = "The data file cannot be used"


class NoImage(DigitqError):
    """The request carries no picture."""

    code, status, title = "no_image", 400, "The request carries no image"


class TooManyFiles(DigitqError):
    """The form has several files; one is allowed."""

    code, status, title = "too_many_files", 400, "Only one image can be sent here"


class UnexpectedField(DigitqError):
    """The form or the JSON object has an unknown field, so its sender expects something else."""

    code, status, title = "unexpected_field", 400, "The request has an unknown field"


class InvalidBase64(DigitqError):
    """The text of an image is not valid base64."""

    code, status, title = "invalid_base64", 400, "The image is not valid base64"


class BadRequest(DigitqError):
    """A parameter or header of the request is malformed."""

    code, status, title = "bad_request", 400, "The request is malformed"


class Unauthorized(DigitqError):
    """The server requires an API key, and the request has none or an unknown one."""

    code, status, title = "unauthorized", 401, "An API key is needed"


class CrossSite(DigitqError):
    """A page of another site sent the request, or its Host header is not a name of the server."""

    code, status, title = "cross_site", 403, "Requests from other sites are refused"


class RateLimited(DigitqError):
    """The client has reached its rate limit of pictures."""

    code, status, title = "rate_limited", 429, "Too many pictures at once"


class NotFound(DigitqError):
    """There was never a prediction with this id, or it was deleted."""

    code, status, title = "not_found", 404, "There is no such prediction"


class StillRunning(DigitqError):
    """A running prediction can be neither cancelled nor deleted."""

    code, status, title = "still_running", 409, "The prediction is running"


class Expired(DigitqError):
    """The prediction existed; its retention time is over, or it was evicted when memory was full."""

    code, status, title = "expired", 410, "The prediction has expired"


class Lost(DigitqError):
    """The prediction was accepted, and Redis lost it before its retention time was over."""

    code, status, title = "lost", 410, "The prediction was lost with the server's data"


class TooLarge(DigitqError):
    """The upload has more bytes than allowed."""

    code, status, title = "too_large", 413, "The upload is too large"

    @classmethod
    def upload(cls, limit: int) -> TooLarge:
        """Return the error for one picture that has more bytes than `limit`."""
        return cls(f"The file exceeds the limit of {in_bytes(limit)}", limit=limit)


class BodyTooSlow(DigitqError):
    """The body of the request did not arrive in time."""

    code, status, title = "body_too_slow", 408, "The request body did not arrive in time"


class Incomplete(DigitqError):
    """A response has fewer results than it announced."""

    code, status, title = "incomplete", 503, "The answer of the server is incomplete"


class TooManyUploads(DigitqError):
    """The request bodies that are arriving fill the disk space reserved for them."""

    code, status, title = "too_many_uploads", 503, "Too many large uploads are arriving at once"


class TooManyDownloads(DigitqError):
    """The limit of concurrent downloads of results and large pictures is reached."""

    code, status, title = "too_many_downloads", 503, "Too many downloads at once"


class UnsupportedType(DigitqError):
    """The content, whatever the file is called, is not a supported image format."""

    code, status, title = "unsupported_type", 415, "The content is not a supported image"


class UndecodableImage(DigitqError):
    """The content starts like an image but cannot be read as one."""

    code, status, title = "undecodable_image", 422, "The image cannot be decoded"


class TooManyPixels(DigitqError):
    """The image has more pixels than allowed."""

    code, status, title = "too_many_pixels", 422, "The image has too many pixels"


class TooManyDigits(DigitqError):
    """The page has more digits than are read."""

    code, status, title = "too_many_digits", 422, "The page has too many digits"


class EmptyBatch(DigitqError):
    """The batch has no picture."""

    code, status, title = "empty_batch", 400, "The batch holds no image"


class TooManyImages(DigitqError):
    """The batch has more pictures than allowed."""

    code, status, title = "too_many_images", 413, "The batch holds too many images"


class MalformedBatch(DigitqError):
    """The content starts like a zip, gzip or IDX file, and is damaged, incomplete or of another kind."""

    code, status, title = "malformed_batch", 422, "The batch cannot be read"


class UnknownRead(DigitqError):
    """A job asks for its picture to be read in a way that is not known, or that its worker does not know."""

    code, status, title = "unknown_read", 422, "The picture cannot be read in this way"


class WebhooksDisabled(DigitqError):
    """The request asks for a webhook, and the server has no secret to sign it with."""

    code, status, title = "webhooks_disabled", 400, "This server sends no webhooks"


class CallbackRefused(DigitqError):
    """The callback URL is malformed, not https, or not a public address."""

    code, status, title = "callback_refused", 422, "The callback URL is refused"


class IdempotencyMismatch(DigitqError):
    """The idempotency key was used before with another image, or to read the same image another way."""

    code, status, title = "idempotency_mismatch", 422, "The idempotency key belongs to another image"


class QueueFull(DigitqError):
    """The queue has reached its limit of pictures or of bytes."""

    code, status, title = "queue_full", 503, "The queue is full"


class RedisUnavailable(DigitqError):
    """Redis does not answer, or refuses to write."""

    code, status, title = "redis_unavailable", 503, "The service is temporarily unavailable"


class RedisMisconfigured(RedisUnavailable):
    """Redis is configured to lose accepted pictures, or in a way that digitq cannot work with."""

    code, title = "redis_misconfigured", "Redis is not set up as digitq needs it"


class ServerUnavailable(RedisUnavailable):
    """The web process does not answer a client. A RedisUnavailable too: callers that expect an outage catch both."""

    code, title = "server_unavailable", "digitq does not answer"


class UnexpectedAnswer(ServerUnavailable):
    """The response does not come from digitq."""

    code, title = "unexpected_answer", "digitq does not answer"


class MemoryFull(RedisUnavailable):
    """Redis's memory is full, and no ended prediction is left to evict."""

    def __init__(self, message: str = "", **extensions: Any) -> None:
        super().__init__(message or "The queue's memory is full", **extensions)


class WritesRefused(RedisUnavailable):
    """Redis can be read but refuses writes: its disk is full, or it lacks replicas."""


class NoWorker(DigitqError):
    """No worker is alive."""

    code, status, title = "no_worker", 503, "No worker is alive"


class PredictionFailed(DigitqError):
    """The prediction ended as `failed`, `cancelled` or `expired`: there is no digit."""

    code, status, title = "prediction_failed", 500, "The prediction has no digit"
