"""Which columns look like personal data."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.personal import (
    GIVEN_NAME_SHAPE,
    MIN_DISTINCT_RATIO,
    MIN_PHONE_NUMBER,
    MIN_SHAPED_SHARE,
    NAMED_VALUES,
    OTHER_SHAPES,
    PART_OF_VALUE,
    SOME_TEXTS,
    WHOLE_VALUE,
    gives_away,
    is_personal_date,
    is_personal_number,
    is_personal_text,
    words_of,
)


def listed(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


PERSONAL_NAMES = listed("""
email Email E-Mail e_mail email2 customer_email customerEmail EMAIL_ADDRESS email_text contact_email
correo_cliente correo_electronico phone phone1 phone_number telephone_no Telefonnummer employee_phone_number
telefono_numero first_name lastName Nachname apellidos prénom PRÉNOM user_name customer_name CustomerName
name_of_customer patient_name имя 姓名 street street_number street_address home_address billing_address
employeeAddress address_line_1 Anschrift Straße ip client_ip ip_address mac_address ssn social_security_number
iban passport_no credit_card_number driver_license tax_id national_id password access_token
""")

OTHER_NAMES = listed("""
product_name name names file_name filename event_name company_name category_name brand_name page_name column_name naming
email_opens email_count email_domain email_verified mobile_sessions mobile_os phone_model address_count street_type
num_addresses ip_count mail_class username_length user_agent customer_type client_id shipping_cost manager_id driver_age
order_number item_number number line raw_value telescope hotel city country macro secret_santa passport_expiry
""")


@pytest.mark.parametrize("name", PERSONAL_NAMES)
def test_a_name_that_says_so_is_enough(name: str) -> None:
    """Contact data, names of people, addresses, identity numbers and secrets are known by their column's name alone."""
    assert is_personal_text(name, {})


@pytest.mark.parametrize("name", [*OTHER_NAMES, "", "123", "___"])
def test_a_name_that_only_holds_such_a_word_is_not(name: str) -> None:
    """The word must be what the column holds, not what it counts, describes or belongs to."""
    assert not is_personal_text(name, {})


@pytest.mark.parametrize(
    "name",
    ["date_of_birth", "dob", "birthDate", "Geburts-Datum", "customer_birthday", "fecha_nacimiento", "date_naissance"],
)
def test_a_date_of_birth_is_personal(name: str) -> None:
    """A datetime column is personal when its name says birth."""
    assert is_personal_date(name)


@pytest.mark.parametrize("name", ["created_at", "order_date", "date", "birth_count", "birthday_offers", "email_date"])
def test_other_dates_are_not_personal(name: str) -> None:
    """No other date is, whatever else its name speaks of."""
    assert not is_personal_date(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("customer_email", ("customer", "email")),
        ("customerEmail", ("customer", "email")),
        ("IPAddress", ("ip", "address")),
        ("Geburts-Datum", ("geburts", "datum")),
        ("prénom", ("prenom",)),
        ("Straße", ("strasse",)),
        ("address2line", ("address", "line")),
        ("  Two   words ", ("two", "words")),
        ("имя", ("имя",)),
        ("2024", ()),
        ("", ()),
    ],
)
def test_a_name_is_taken_apart(name: str, words: tuple[str, ...]) -> None:
    """Case, hyphens, digits, accents and camel case separate words and do not change them."""
    assert words_of(name) == words


VALUES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "email": (
        ("me@x.org", "a.b+c@mail.example.co.uk", "ä@größe.de"),
        ("a@b", "a@b.c", "me at x.org", "@x.org", "a b@x.org", "me@x.org, you@x.org"),
    ),
    "phone": (
        (
            "+491701234567", "+49 170 1234567", "0049 170 1234567", "+1 (555) 123-4567", "(555) 123-4567",
            "555-123-4567", "1-555-123-4567", "0170 1234567", "030/123456", "(02) 9374 4000", "020 7946 0958",
            "01 23 45 67 89", "08-12 34 56", "02 1234 5678",
        ),
        (
            "01/02/2024", "01-02-2024", "02.03.2024", "01.02.24", "2024-01-02", "12:30:45", "1234567890", "+12345",
            "+1.5", "555-1234", "10.000,00", "1.2.3", "978-3-16-148410-0", "0170", "SKU-0170-22", "0.25",
        ),
    ),
    "iban": (
        ("DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"),
        ("DE12", "de89370400440532013000", "DE8937040044053201300012345678901234567"),
    ),
    "card": (
        ("4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"),
        ("1111111111111111", "4111", "41111111111111111", "7111 1111 1111 1111"),
    ),
    "national_id": (
        ("123-45-6789", "AB123456C", "AB 12 34 56 C", "123.456.789-09", "2 94 03 75 120 005 22",
         "2345 6789 0123"),
        ("123-456-789", "AB12345C", "123.456.789", "1234 5678 9012", "3 94 03 75 120 005"),
    ),
    "ip_address": (
        ("192.168.0.1", "8.8.8.8", "255.255.255.255", "2001:db8::1", "2001:0db8:0:0:0:0:0:1", "aa:bb:cc:dd:ee:ff",
         "AA-BB-CC-DD-EE-FF"),
        ("256.1.1.1", "1.2.3", "1.2.3.4.5", "12:30:45", "::", "v1.2.3.4", "aa:bb:cc"),
    ),
    "street_address": (
        ("221b Baker Street", "5 Elm St, Springfield", "Hauptstraße 5", "Am Alten Weg 12a", "12 rue de la Paix",
         "12 bis avenue Foch", "Calle Mayor 5", "Via Roma 10", "ulica Prosta 51"),
        ("Baker Street", "12 months", "London", "100 Places", "street 5", "5 streets", "Weg"),
    ),
    "titled_name": (
        ("Mr. Smith", "mrs Smith", "Smith, Mr. John", "Dr. Who", "Frau Müller", "Señora Pérez"),
        ("Mr.", "Missouri", "Drive", "Mastery", "amr x", "Profit rose"),
    ),
}  # fmt: skip
"""For each shape, values that have it and values that have none at all."""


@pytest.mark.parametrize(("shape", "value"), [(shape, value) for shape, (good, _) in VALUES.items() for value in good])
def test_a_value_of_a_personal_shape_is_never_shown(shape: str, value: str) -> None:
    """The value matches its shape as a whole, and so gives someone away."""
    assert WHOLE_VALUE[shape].fullmatch(value)
    assert gives_away(value)


@pytest.mark.parametrize(("shape", "value"), [(shape, value) for shape, (_, bad) in VALUES.items() for value in bad])
def test_a_value_that_only_resembles_one_is_not_of_the_shape(shape: str, value: str) -> None:
    """Dates, versions, amounts, codes and plain words are not taken for contact data of that kind."""
    assert not WHOLE_VALUE[shape].fullmatch(value)


@pytest.mark.parametrize(
    "value", ["01/02/2024", "02.03.2024", "12:30:45", "London", "v1.2.3.4", "-12.50", "SKU-12345", "Missouri", ""]
)
def test_an_everyday_value_may_be_shown(value: str) -> None:
    """What is no one's data gives no one away under any of the shapes."""
    assert not gives_away(value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("please mail me@x.org soon", False),
        ("call +49 170 1234567 tonight", False),
        ("rated 5 of 5, would buy 2 more", True),
        ("meet me @ noon", True),
        ("profit +12.5 %", True),
    ],
)
def test_contact_data_inside_a_text_hides_the_text(text: str, shown: bool) -> None:  # noqa: FBT001 - a table's column
    """An address or an international number gives a sentence away wherever it stands."""
    assert gives_away(text) is not shown


@pytest.mark.parametrize("shape", sorted(WHOLE_VALUE))
def test_half_of_the_values_make_the_column_personal(shape: str) -> None:
    """From one half on, blanks and slips among the rest do not clear a column."""
    assert MIN_SHAPED_SHARE == 0.5
    assert is_personal_text("x", {shape: 0.5})
    assert not is_personal_text("x", {shape: 0.499})


@pytest.mark.parametrize("shape", sorted(PART_OF_VALUE))
def test_one_text_in_a_hundred_makes_the_column_personal(shape: str) -> None:
    """Free texts need far fewer."""
    assert SOME_TEXTS == 0.01
    assert is_personal_text("x", {shape: 0.01})
    assert not is_personal_text("x", {shape: 0.0099})


def test_a_quarter_of_given_names_makes_the_column_personal() -> None:
    """About half of all people bear one of the names; next to no things do."""
    assert NAMED_VALUES == 0.25
    assert is_personal_text("x", {GIVEN_NAME_SHAPE: 0.25})
    assert not is_personal_text("x", {GIVEN_NAME_SHAPE: 0.249})


@pytest.mark.parametrize("shape", sorted(OTHER_SHAPES))
def test_identifiers_are_not_personal(shape: str) -> None:
    """UUIDs, digests and codes are shapes of things."""
    assert not is_personal_text("x", {shape: 1.0})


def test_a_number_is_personal_by_name_size_and_rarity_together() -> None:
    """A telephone number has seven digits and seldom repeats; each of the three must hold."""
    assert (MIN_PHONE_NUMBER, MIN_DISTINCT_RATIO) == (1_000_000, 0.5)
    assert is_personal_number("phone", minimum=1_000_000, distinct_ratio=0.5)
    assert not is_personal_number("phone", minimum=999_999, distinct_ratio=0.5)
    assert not is_personal_number("phone", minimum=1_000_000, distinct_ratio=0.499)
    assert not is_personal_number("revenue", minimum=1_000_000, distinct_ratio=1.0)
    assert not is_personal_number("street", minimum=1_000_000, distinct_ratio=1.0)


@given(st.text(alphabet=string.ascii_letters + "_- éß", max_size=30))
def test_case_does_not_matter_to_single_words(name: str) -> None:
    """A name in capitals and the same in small letters mean the same when no camel case is lost."""
    lower = name.lower()
    assert words_of(lower.upper()) == words_of(lower)


@given(st.from_regex(re.compile(r"[a-z]{1,8}@[a-z]{1,8}\.[a-z]{2,4}"), fullmatch=True), st.text(max_size=20))
def test_an_email_address_hides_any_text_around_it(address: str, around: str) -> None:
    """Whatever stands before and after it, blanks between."""
    assert gives_away(f"{around} {address} {around}")
