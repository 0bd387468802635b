"""Which columns look like personal data: by their names in several languages, and by the shape of their values.

A wrong "personal" hides a column's examples from the planner; a wrong "not personal" lets someone's data out of the
engine. So doubt counts as personal, except for measures: a number that is not shaped like a telephone or identity
number is never personal, whatever its name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_I = re.IGNORECASE


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WHOLE_VALUE: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}"),
    "phone": re.compile(
        r"(\+|00)[1-9]([ ./()-]*[0-9]){6,14}"  # international: E.164, at most 15 digits
        r"|(1[ .-])?(\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}"  # North America
        r"|\(?0[1-9][0-9]{1,4}\)?[ /.-]+[0-9]{2,4}([ ./-]*[0-9]{2,4}){1,4}"  # trunk prefix 0 and a separator
        r"|\(?0[1-9]\)?[ /.-]+([0-9]{3,4}([ ./-]*[0-9]{2,4}){1,4}"  # likewise, with a short area code; but not
        r"|[0-9]{2}([ ./-]+[0-9]{2}){2,4})"  # 01/02/2024 or 01.02.24, which are dates
    ),
    "iban": re.compile(r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[0-9]{4}( ?[A-Z0-9]{1,4}){1,6}"),  # ISO 13616
    "card": re.compile(r"[3-6][0-9]{3}([ -]?)[0-9]{4}([ -]?)[0-9]{4}([ -]?)[0-9]{3,4}"),  # ISO/IEC 7812
    "national_id": re.compile(
        r"[0-9]{3}-[0-9]{2}-[0-9]{4}"  # United States: social security number
        r"|[A-CEGHJ-PR-TW-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"  # United Kingdom: national insurance number
        r"|[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"  # Brazil: CPF
        r"|[12] [0-9]{2} [0-9]{2} [0-9]{2} [0-9]{3} [0-9]{3}( [0-9]{2})?"  # France: numéro de sécurité sociale
        r"|[2-9][0-9]{3} [0-9]{4} [0-9]{4}"  # India: Aadhaar
    ),
    "ip_address": re.compile(
        r"((25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}(25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
        r"|([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,6}(:[0-9a-f]{1,4}){1,6}"
        r"|([0-9a-f]{2}[:-]){5}[0-9a-f]{2}",
        _I,
    ),
    "street_address": re.compile(
        r"[0-9]{1,6}[a-z]? .*\b(street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|way|place|pl"
        r"|square|sq|terrace|highway|hwy|parkway|pkwy)\b.*"
        r"|.*(stra(ß|ss)e|str\.|weg|platz|allee|gasse|straat|laan) [0-9]{1,5}.*"
        r"|[0-9]{1,5},? (bis |ter )?(rue|avenue|boulevard|place|chemin|impasse|quai|cours) .*"
        r"|(calle|avenida|avda\.?|plaza|paseo|via|viale|piazza|corso|rua|travessa|ulica|ul\.) .*[0-9]{1,5}.*",
        _I,
    ),
    "titled_name": re.compile(
        r"(.*[ ,])?(mr|mrs|ms|miss|master|dr|prof|herr|frau|mme|mlle|se(ñ|n)ora?)\.? .+",
        _I,
    ),
}  # fmt: skip
"""Shapes of values; RE2 reads them too, and the engine counts the share of values that match as a whole."""

PART_OF_VALUE: dict[str, re.Pattern[str]] = {
    "holds_email": re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    "holds_phone": re.compile(r"\+[1-9]([ ./()-]?[0-9]){8,14}"),
}
"""Shapes that give a free text away wherever in it they stand."""

OTHER_SHAPES: dict[str, re.Pattern[str]] = {
    "uuid": re.compile(r"\{?[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\}?", _I),
    "digest": re.compile(r"[0-9a-f]{24}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", _I),
    "with_digit": re.compile(r".*[0-9].*"),
}
"""Shapes that tell identifiers; nothing personal."""

GIVEN_NAMES = _words("""
    aaron abdul adam agnieszka ahmed aisha alan albert alejandro alessandro alex alexander alexandra alice alicia ali
    amanda amelia amit amy ana anastasia andrea andreas andrew andrzej angela anita anja ann anna anne anthony antonio
    arjun arthur barbara beatriz ben benjamin bernard bob brandon brian bruno camille carla carlos carmen carol
    caroline catherine charles charlotte chen chiara chloe chris christian christina christine christopher claire clara
    claudia cynthia daniel daniela david deborah dennis diana diego dmitri dominik donald donna dorothy douglas edward
    elena elizabeth ella emily emma eric erik esther ethan eva fatima felix fernando florian francesca francesco
    francisco frank gabriel gary george giovanni giulia grace gregory hannah hans harold harry hassan heather helen
    henry hiroshi hugo ibrahim igor ines ingrid irina isabel isabella ivan jack jacob jacques james jan jane janet jason
    jean jeffrey jennifer jessica joan joanna johan johann john jonas jonathan jorge jose joseph joshua juan juliette
    julia julian julie jun karen karl katarzyna kate katherine kathleen keith kelly kenneth kenji kevin kim klaus
    krzysztof lars larry laura lauren lea lena leon leonardo linda lisa louis louise luca lucas lucia luis luisa lukas
    magdalena manuel marcel marco marcus margaret maria mariam marie mario mark markus marta martin mary mateo matthew
    matthias max maximilian megan mehmet melissa mia michael michel michelle miguel mohamed mohammad mohammed monica
    muhammad nancy natalia natalie nathan nicholas nicolas nicole nina noah nora oleg oliver olivia olga omar oscar
    pablo pamela patricia patrick paul paula pedro peter petra philip philippe pierre piotr priya rachel rafael rahul
    raj ralph ramon raymond rebecca ricardo richard robert roberto roger ronald rosa rose russell ruth ryan samantha
    samuel sandra sanjay sara sarah scott sean sebastian sergei sergio sharon shirley silvia simon sofia sofie sophia
    sophie stefan stefanie stephanie stephen steven sunita susan sven svetlana tatiana teresa theresa thomas tim
    timothy tina tomasz ulrich ursula valentina vanessa vera victor victoria viktor vincent virginia vladimir walter
    wei wilhelm william wolfgang xavier yan yasmin yuki yusuf yves zoe
""")
"""Frequent given names of Europe, the Americas, the Arab world and Asia, from public name statistics."""

GIVEN_NAME_SHAPE = "given_name"
"""The engine's name for the share of values whose first word is one of `GIVEN_NAMES`."""

# --------------------------------------------------------------------------------------------------- words of names

_CONTACT = _words("""
    email mail emailaddress mailaddress correo courriel eposta phone phonenumber telephone tel telefon telefono
    telefone telefoonnummer telefonnummer handynummer mobile mobil mobilephone cellphone movil celular fax handy
""")
_PERSON = _words("""
    firstname lastname surname fullname forename givenname familyname maidenname middlename nickname username
    displayname vorname nachname familienname benutzername prenom nomfamille nombre nombres apellido apellidos cognome
    sobrenome imie nazwisko naam voornaam achternaam fornavn efternamn etternavn imya familiya
    имя фамилия отчество 姓名 名前 氏名 이름 passenger
""")
_PLACE = _words("""
    address addr street streetname streetaddress adresse anschrift strasse rue direccion domicilio calle indirizzo
    endereco morada adres adress postanschrift адрес улица 地址 住所
""")
_NUMBERED = _words("""
    ssn sin nino nif nie dni cpf bsn pesel aadhaar socialsecurity socialsecuritynumber passport passportnumber pasaporte
    passeport reisepass personalausweis ausweisnummer steuerid taxid taxnumber iban bankaccount creditcard cardnumber
    creditcardnumber kreditkarte cvv licenseplate driverlicense driverslicense insurancenumber nationalid personalid
""")
_NETWORK = frozenset({"ip", "ipaddress", "ipaddr", "clientip", "remoteip", "mac", "macaddress"})
_SECRET = frozenset({"password", "passwd", "pwd", "passwort", "secret", "apikey", "accesstoken"})
_BIRTH = _words("""
    birthdate birthday dateofbirth dob geburtsdatum geburtstag datenaissance fechanacimiento datanascita datanascimento
""")

_OWNERS = _words("""
    customer client user patient employee staff contact person people member guest passenger driver student teacher
    author owner buyer seller sender recipient applicant candidate borrower holder subscriber visitor doctor nurse agent
    manager billing shipping delivery home work private primary secondary kunde mitarbeiter cliente usuario
    paciente utilisateur klant cliente empleado dipendente
""")
_SUFFIXES = _words(
    "number no nr num numero nummer line text string value raw full address adresse electronico electronique"
)

_TEXT_WORDS = _CONTACT | _PERSON | _PLACE | _NUMBERED | _NETWORK | _SECRET | _BIRTH
_NUMBER_WORDS = _CONTACT | _NUMBERED

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATOR = re.compile(r"[^\w]+|_+|\d+")

MIN_SHAPED_SHARE = 0.5
"""Share of values of a personal shape from which on the column is of that kind, slips and blanks allowed for."""
SOME_TEXTS = 0.01
"""A free text that gives contact data away in one of a hundred rows gives people away."""
NAMED_VALUES = 0.25
"""Share of values that begin with a frequent given name: about half of all people bear one, next to no things do."""
MIN_PHONE_NUMBER = 1_000_000
"""The shortest telephone and identity numbers have seven digits; counts and prices of that size do not repeat so
rarely."""
MIN_DISTINCT_RATIO = 0.5
"""Share of distinct values from which on a number can stand for one person each."""


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column name in lower case, without accents: `Geburts-Datum`, `geburtsDatum`, `GEBURTS_DATUM`."""
    apart = unicodedata.normalize("NFKD", _CAMEL.sub(" ", name))
    plain = unicodedata.normalize("NFC", "".join(sign for sign in apart if not unicodedata.combining(sign)))
    return tuple(word for word in _SEPARATOR.split(plain.replace("ß", "ss").casefold()) if word)


def is_personal_text(name: str, shares: Mapping[str, float]) -> bool:
    """Whether a text column is personal; `shares` gives the share of its values of each shape."""
    whole = any(shares.get(shape, 0.0) >= MIN_SHAPED_SHARE for shape in WHOLE_VALUE)
    part = any(shares.get(shape, 0.0) >= SOME_TEXTS for shape in PART_OF_VALUE)
    named = shares.get(GIVEN_NAME_SHAPE, 0.0) >= NAMED_VALUES
    return whole or part or named or _named_so(name, _TEXT_WORDS) or _is_person_name(name)


def is_personal_number(name: str, *, minimum: int, distinct_ratio: float) -> bool:
    """Whether an integer column is a telephone or identity number: by name, size and how rarely its values repeat."""
    return minimum >= MIN_PHONE_NUMBER and distinct_ratio >= MIN_DISTINCT_RATIO and _named_so(name, _NUMBER_WORDS)


def is_personal_date(name: str) -> bool:
    """Whether a datetime column is a date of birth."""
    return _named_so(name, _BIRTH)


def gives_away(text: str) -> bool:
    """Whether a single value is or holds personal data; asked of each value that a profile would show."""
    return any(pattern.fullmatch(text) for pattern in WHOLE_VALUE.values()) or any(
        pattern.search(text) for pattern in PART_OF_VALUE.values()
    )


def _named_so(name: str, vocabulary: frozenset[str]) -> bool:
    """Whether the name's head is one of the words: `customer_email` is, `email_opens` and `mobile_sessions` are not.

    The head stands last in Germanic names, first in Romance ones, there only before the owner (`correo_cliente`).
    """
    words = words_of(name)
    while words:
        endings = {"".join(words[start:]) for start in range(len(words))}
        beginnings = {"".join(words[:end]) for end in range(1, len(words)) if set(words[end:]) <= _OWNERS}
        if (endings | beginnings) & vocabulary:
            return True
        words = words[:-1] if words[-1] in _SUFFIXES else ()
    return False


def _is_person_name(name: str) -> bool:
    """`customer_name`, `name of patient`; not `product_name`, nor a plain `name`, which values must show."""
    words = words_of(name)
    naming = {"name", "names", "nom", "nome"}
    return len(words) > 1 and bool(naming & {words[0], words[-1]}) and bool(_OWNERS & set(words))
