"""From bytes to the numbers in them, with stand-ins for the network and for the reader of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import DigitqError, TooManyDigits, UndecodableImage
from shared.numbers import FoundDigit, FoundGrid, FoundNumber, PageReading
from shared.prediction import Outcome
from tests.drawings import encoded
from tests.fakes import Sure
from tests.pages import PAGE, number, two_digits
from tests.pictures import png, seven
from worker.decoding.decode import decode_page, upright_size
from worker.image.arrays import Grey
from worker.inference import numbers_classifier
from worker.inference.classify import Classified, Classifier, Pictures
from worker.inference.numbers_classifier import NumbersClassifier

Reads = list[list[tuple[int, ...]]]
#: A stand-in for the reader: makes a reading of each page.
Reader = Callable[[Grey], PageReading | DigitqError]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reads]:
    """Replace the reader; return the shapes of the pages of each call."""

    def replaced(reader: Reader) -> Reads:
        calls: Reads = []

        def read_pages(pages: Sequence[Grey], read: Any, thresholds: Any) -> list[PageReading | DigitqError]:
            calls.append([page.shape for page in pages])
            read(np.zeros((2, 28, 28), np.float32))
            return [reader(page) for page in pages]

        monkeypatch.setattr(numbers_classifier, "read_pages", read_pages)
        return calls

    return replaced


def read(images: Pictures, model: Sure, max_pixels: int = 10**8) -> Classified:
    return NumbersClassifier(Classifier(model, max_pixels))(images)


def one(image: bytes, model: Sure) -> Outcome:
    [result] = read([image], model).results
    assert isinstance(result, Outcome) and result.page is not None
    return result


def test_an_accepted_digit_is_one_number_and_is_as_without_numbers(reads: Callable[[Reader], Reads]) -> None:
    calls = reads(lambda page: PAGE)
    found = one(seven(56), Sure())
    [plain] = Classifier(Sure(), 10**6)([seven(56)]).results
    assert replace(found, page=None) == plain
    assert found.page == PageReading((FoundNumber((FoundDigit(7, 0.95, "accept", (0, 0, 56, 56)),)),))
    assert calls == []


def test_several_digits_are_read_as_a_page(reads: Callable[[Reader], Reads]) -> None:
    reads(lambda page: PAGE)
    found = one(encoded(two_digits()), Sure())
    assert (found.page, found.decision, found.reason) == (PAGE, "review", "low_confidence")
    assert (found.digit, found.confidence, found.probabilities, found.input) == (None, None, None, b"")


def test_what_is_unsure_as_a_digit_stays_so_unless_the_page_has_more(reads: Callable[[Reader], Reads]) -> None:
    reads(lambda page: PageReading((number("4", 5, 6),)))
    found = one(seven(56), Sure(0.7))
    assert (found.digit, found.decision, found.reason, len(found.input)) == (7, "review", "low_confidence", 784)
    assert found.page and found.page.digits == [FoundDigit(7, 0.7, "review", (5, 6, 10, 20))]
    reads(lambda page: PageReading((number("44", 5, 6),)))
    found = one(seven(56), Sure(0.7))
    assert found.page and found.page.lines == ["44"]


def test_a_page_with_one_digit_has_it_as_its_digit(reads: Callable[[Reader], Reads]) -> None:
    reads(lambda page: PageReading((number("4", 5, 6),), warnings=("inverted",)))
    found = one(encoded(two_digits()), Sure())
    assert (found.digit, found.confidence, found.decision, found.reason) == (4, 0.99, "accept", None)
    assert (found.probabilities, found.input, found.warnings) == (None, b"", ("inverted",))


def test_signs_that_are_left_out_are_a_warning(reads: Callable[[Reader], Reads]) -> None:
    signed = replace(number("44", 5, 6), signs=True)
    reads(lambda page: PageReading((number("7", 90, 6), signed), warnings=("inverted",)))
    assert one(encoded(two_digits()), Sure()).warnings == ("inverted", "signs_left_out")
    reads(lambda page: PageReading((number("7", 90, 6), number("44", 5, 6))))
    assert one(encoded(two_digits()), Sure()).warnings == ()


def test_a_sign_beside_a_digit_that_is_unsure_is_a_warning(reads: Callable[[Reader], Reads]) -> None:
    reads(lambda page: PageReading((replace(number("4", 5, 6), signs=True),)))
    found = one(seven(56), Sure(0.7))
    assert found.warnings[-1] == "signs_left_out" and found.page and found.page.numbers[0].signs


def test_nothing_found_is_rejected_with_a_reason(reads: Callable[[Reader], Reads]) -> None:
    reads(lambda page: PageReading())
    blank, scene = one(png(), Sure()), one(encoded(two_digits()), Sure())
    assert [(each.decision, each.reason, each.digit) for each in (blank, scene)] == [
        ("reject", "no_ink", None), ("reject", "not_a_digit", None),
    ]  # fmt: skip
    assert "several_digits" not in scene.warnings


def test_digits_that_are_all_rejected_are_shown_and_are_no_answer(reads: Callable[[Reader], Reads]) -> None:
    reads(lambda page: PageReading((number("12", 5, 6, "reject"),)))
    found = one(encoded(two_digits()), Sure())
    assert (found.decision, found.reason, found.digit) == ("reject", "not_a_digit", None)
    assert found.page and len(found.page.digits) == 2 and found.page.lines == []


def test_all_pages_of_a_batch_are_read_in_one_call_and_errors_stay_in_their_place(
    reads: Callable[[Reader], Reads],
) -> None:
    calls = reads(lambda page: TooManyDigits() if page.shape[1] == 400 else PAGE)
    images = [encoded(two_digits()), seven(), b"no picture", encoded(two_digits(400)), encoded(two_digits(280))]
    done = read(images, Sure())
    kinds = [type(result) for result in done.results]
    assert kinds == [Outcome, Outcome, UndecodableImage, TooManyDigits, Outcome]
    assert calls == [[(200, 300), (200, 400), (200, 280)]]
    assert done.preprocess_ms > 0 and done.inference_ms > 0


def test_a_batch_is_closed_once_its_pages_exceed_the_pixel_limit(
    reads: Callable[[Reader], Reads], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(lambda page: PAGE)
    monkeypatch.setattr(numbers_classifier, "PIXELS_AT_ONCE", 100_000)
    assert len(read([encoded(two_digits())] * 5, Sure()).results) == 2
    assert len(read([seven(400)] * 5, Sure()).results) == 5


def test_pictures_are_not_read_as_digits_in_vain_once_there_are_enough_pages(
    reads: Callable[[Reader], Reads], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(lambda page: PAGE)
    monkeypatch.setattr(numbers_classifier, "PIXELS_AT_ONCE", 100_000)
    monkeypatch.setattr(numbers_classifier, "PART_BYTES", 1)
    seen: list[int] = []

    def counted(self: Classifier, images: Pictures) -> Classified:
        seen.append(len(images))
        return plain(self, images)

    plain = Classifier.__call__
    monkeypatch.setattr(Classifier, "__call__", counted)
    assert len(read([encoded(two_digits())] * 5, Sure()).results) == 2
    assert seen == [1, 1]


def test_small_pictures_are_read_as_digits_all_at_once() -> None:
    assert [len(part) for part in numbers_classifier._parts([seven()] * 64)] == [64]
    assert [len(part) for part in numbers_classifier._parts([bytes(200_000)] * 5)] == [2, 2, 1]
    assert [len(part) for part in numbers_classifier._parts(np.zeros((1000, 28, 28), np.uint8))] == [335, 335, 330]


def test_boxes_are_pixels_of_the_upright_upload(reads: Callable[[Reader], Reads]) -> None:
    cell = FoundGrid((("1",),), (((0, 0, 400, 200),),))
    calls = reads(lambda page: PageReading((number("12", 100, 200),), cell))
    page = Image.fromarray(two_digits()).resize((4800, 3200))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    out = BytesIO()
    page.save(out, "JPEG", exif=exif)
    found = one(out.getvalue(), Sure())
    assert calls == [[(2400, 1600)]]
    assert found.page and [digit.box for digit in found.page.digits] == [(200, 400, 20, 40), (224, 400, 20, 40)]
    assert found.page.grid and found.page.grid.boxes == (((0, 0, 800, 400),),)
    assert upright_size(out.getvalue()) == decode_page(out.getvalue(), max_pixels=10**8).size == (3200, 4800)


def test_raw_pictures_of_an_idx_file_are_pages_too(reads: Callable[[Reader], Reads]) -> None:
    calls = reads(lambda page: PAGE)
    done = read(np.stack([two_digits()] * 2), Sure())
    assert [result.page for result in done.results if isinstance(result, Outcome)] == [PAGE, PAGE]
    assert calls == [[(200, 300)] * 2]


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((4032, 3024), (1512, 2016)),
        ((3264, 2448), (1800, 2400)),
        ((1600, 1200), (1200, 1600)),
        ((6000, 100), (40, 2400)),
    ],
)
def test_a_page_keeps_its_detail_and_no_more(size: tuple[int, int], shape: tuple[int, int]) -> None:
    out = BytesIO()
    Image.new("L", size, 200).save(out, "JPEG")
    page = decode_page(out.getvalue(), max_pixels=10**8)
    assert (page.size, page.grey.shape) == (size, shape)


@pytest.mark.parametrize(("data", "code"), [(seven(2000), "too_many_pixels"), (seven(90)[:-40], "undecodable_image")])
def test_a_page_that_cannot_be_decoded_is_refused_by_name(data: bytes, code: str) -> None:
    with pytest.raises(DigitqError) as refused:
        decode_page(data, max_pixels=10**6)
    assert refused.value.code == code
