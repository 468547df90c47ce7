"""How numbers are dialled in each country, and the forms in which one number is written."""

from __future__ import annotations

#: What is dialled before a country code, by country (ITU-T Operational Bulletin, list of dialling procedures).
INTERNATIONAL = {
    "us": "011", "us-old": "011", "au": "0011", "jp": "010", "sg": "001", "th": "001", "tw": "002", "ru": "810",
    "br": "00", "il": "00",
}  # fmt: skip
#: Country codes (ITU-T E.164).
COUNTRY_CODES = {
    "at": "43", "au": "61", "be": "32", "bg": "359", "br": "55", "ch": "41", "cl": "56", "cn": "86", "cz": "420",
    "de": "49", "dk": "45", "ee": "372", "es": "34", "fi": "358", "fr": "33", "gr": "30", "hu": "36", "id": "62",
    "il": "972", "in": "91", "it": "39", "jp": "81", "lt": "370", "mx": "52", "my": "60", "nl": "31", "no": "47",
    "nz": "64", "ph": "63", "pl": "48", "pt": "351", "ru": "7", "se": "46", "sg": "65", "th": "66", "tw": "886",
    "uk": "44", "us": "1", "us-old": "1", "ve": "58", "za": "27",
}  # fmt: skip
#: Countries whose national numbers have no 0 before them.
_NO_TRUNK_PREFIX = frozenset(
    ("br", "cl", "cz", "dk", "ee", "es", "gr", "it", "mx", "no", "pl", "pt", "ru", "sg", "us", "us-old", "ve")
)
SHORTEST = 6
#: Numbers for help by country, that every phone may dial and nothing inside may have (ITU-T E.161.1; national plans).
EMERGENCY = {
    "us": ("911",), "us-old": ("911",), "mx": ("911",), "ph": ("911",), "uk": ("999", "112"), "ie": ("999", "112"),
    "au": ("000", "112"), "nz": ("111",), "jp": ("110", "119"), "cn": ("110", "119", "120"),
    "br": ("190", "192", "193"), "de": ("112", "110"),
    "za": ("112", "10111"), "in": ("112",), "sg": ("995", "999"), "my": ("999",), "th": ("191",), "tw": ("110", "119"),
    "ch": ("112", "117", "118", "144"), "no": ("110", "112", "113"), "il": ("100", "101", "102"), "ve": ("911",),
    "cl": ("131", "132", "133"),
}  # fmt: skip
#: Older numbers for help beside 112, which reaches all services there: dialled unless something inside has the number.
ALSO_EMERGENCY = {
    "at": ("122", "133", "144"), "be": ("100", "101"), "cz": ("150", "155", "158"), "es": ("061", "062", "080", "091"),
    "fr": ("15", "17", "18"), "gr": ("100", "166", "199"), "hu": ("104", "105", "107"), "it": ("113", "115", "118"),
    "pl": ("997", "998", "999"), "ru": ("101", "102", "103"),
}  # fmt: skip


def emergency_numbers(country: str) -> tuple[str, ...]:
    """Return a country's numbers for help; 112 where the table knows nothing else (all of Europe has it)."""
    return EMERGENCY.get(country, ("112",))


def forms(number: str, country: str) -> tuple[str, ...]:
    """Return a public number as it may be sent, without +: as written, with and without the country's own code."""
    bare = number.lstrip("+")
    code = COUNTRY_CODES.get(country, "")
    prefix = "" if country in _NO_TRUNK_PREFIX else "0"
    abroad = INTERNATIONAL.get(country, "00")
    if number.startswith("+"):
        found = [bare, abroad + bare]
        if code and bare.startswith(code):
            rest = bare[len(code) :]
            found += [rest, prefix + rest]
    elif code and not bare.startswith(abroad):
        rest = bare.removeprefix(prefix) if prefix else bare
        whole = bare if bare.startswith(code) and country in ("us", "us-old") else code + rest
        found = [bare, whole, abroad + whole]
    else:
        found = [bare, bare.removeprefix(abroad)]
    return tuple(form for form in dict.fromkeys(found) if form == bare or len(form) >= SHORTEST)


def caller_forms(text: str, country: str) -> tuple[str, ...]:
    """Return a pattern of callers in the forms in which their numbers may be sent, without +.

    A national form is given only where two digits or more are written out: less would catch foreign numbers too.
    """
    if text.lstrip("+").isdigit():
        return forms(text, country)
    bare, code, abroad = text.lstrip("+"), COUNTRY_CODES.get(country, ""), INTERNATIONAL.get(country, "00")
    prefix = "" if country in _NO_TRUNK_PREFIX else "0"
    found = [bare]
    if text.startswith("+"):
        found.append(abroad + bare)
        rest = bare[len(code) :]
        if code and bare.startswith(code) and rest[:2].isdigit() and len(rest) > 2:
            found += [rest, prefix + rest]
    elif code and bare[:2].isdigit() and not bare.startswith(abroad):
        rest = bare.removeprefix(prefix) if prefix else bare
        found += [code + rest, abroad + code + rest]
    return tuple(dict.fromkeys(found))
