"""Patterns for other engines: they must find something exactly where RE2 does.

Here Python's `re` reads the translations: what they are written in means the same to it, but for the names of edges.
That the native engine agrees too is for tests/fuzz.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from qfilter.regex import MAX_NESTING, MAX_PATTERN, MAX_WEIGHT, compile_pattern, translate

EVERY_BYTE = bytes(range(256))
ANY = r"[\x00-\xff]"
NOTHING = r"[^\x00-\xff]"
UPPER, LOWER = r"A-Z", r"a-z"
HIGH = r"\xaa\xb5\xba\xc0-\xd6\xd8-\xf6\xf8-\xff"
"""The letters of Latin-1 behind ASCII."""


_IN_PYTHON = {r"\z": r"(?:\Z)", r"\A": r"(?:\A)", r"\b": r"(?:\b)", r"\B": r"(?!\b)"}
"""`re` repeats no bare edge, calls the end otherwise, and finds no `\\B` in an empty text."""


def in_python(translated: str) -> re.Pattern[bytes]:
    """A translation for `re`. A backslash in it is that of an edge or of a byte, never a literal one."""
    text = re.sub(r"\\[zAbB]", lambda edge: _IN_PYTHON[edge[0]], translated.removeprefix("(?-u)"))
    return re.compile(text.encode("ascii"))


def agree(pattern: bytes, texts: list[bytes]) -> bool:
    """Whether RE2 finds the pattern in the same texts as `re` its translation."""
    translated = translate(pattern)
    assert translated is not None
    here, there = compile_pattern(pattern), in_python(translated)
    return all((here.search(text) is None) is (there.search(text) is None) for text in texts)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        # literals and escapes
        (b"", ""),
        (b"aZ09", "aZ09"),
        (b"_-# &~", r"\x5f\x2d\x23\x20\x26\x7e"),
        (b"\x00\n\xe9", r"\x00\x0a\xe9"),
        (rb"\.\n\t\a\f\r\v", r"\x2e\x0a\x09\x07\x0c\x0d\x0b"),
        (rb"\x41\x{41}\x{e9}\101\0\08\12", r"AA\xe9A\x00\x008\x0a"),
        (rb"\Qa.b\E.", r"a\x2eb[\x00-\x09\x0b-\xff]"),
        (rb"\Qa.\\E\Qb", r"a\x2e\x5cb"),
        # any byte
        (b".", r"[\x00-\x09\x0b-\xff]"),
        (b"(?s).", ANY),
        (rb"\C", ANY),
        # classes
        (b"[a-cx]", "[a-cx]"),
        (b"[^a-cx]", r"[\x00-\x60d-wy-\xff]"),
        (b"[]a]", r"[\x5da]"),
        (b"[^]a]", r"[\x00-\x5c\x5e-\x60b-\xff]"),
        (rb"[]-a\]]", r"[\x5d-a]"),
        (b"[]-a-[:digit:]]", r"[\x2d0-9\x5d-a]"),
        (b"[-a]", r"[\x2da]"),
        (b"[a-]", r"[\x2da]"),
        (b"[a-b-c]", r"[\x2da-c]"),
        (b"[!-[:x]]", r"[\x21-\x5bx]\x5d"),
        (b"[[:foo]", r"[\x3a\x5bfo]"),
        (b"[[:digit:][:^ascii:]x]", r"[0-9x\x80-\xff]"),
        (b"[a&&b]", r"[\x26a-b]"),
        (b"[+--~~]", r"[\x2b-\x2d\x7e]"),
        (rb"[\d\s\]\x41-C]", r"[\x09-\x0a\x0c-\x0d\x200-9A-C\x5d]"),
        (rb"[^\x00-\xff]", NOTHING),
        (rb"\d\D", r"[0-9][\x00-\x2f\x3a-\xff]"),
        (rb"\w", rf"[0-9{UPPER}\x5f{LOWER}]"),
        (rb"\s", r"[\x09-\x0a\x0c-\x0d\x20]"),
        (rb"\pL", rf"[{UPPER}{LOWER}{HIGH}]"),
        (rb"\p{Greek}\P{Greek}", NOTHING + ANY),
        (rb"\p{^Greek}", ANY),
        # case: RE2 folds only ASCII in Latin-1
        (b"(?i)k9.", r"[Kk]9[\x00-\x09\x0b-\xff]"),
        (b"(?i)\xe9\xb5\xff", r"\xe9\xb5\xff"),
        (b"(?i)[k-l]", "[K-Lk-l]"),
        (b"(?i)[^k]", r"[\x00-JL-jl-\xff]"),
        (rb"(?i)\Qk+\E", r"[Kk]\x2b"),
        # edges
        (b"^a$", r"\Aa\z"),
        (b"(?m)^a$", "(?m:^)a(?m:$)"),
        (rb"(?m)\Aa\z\b\B", r"\Aa\z\b\B"),
        # groups and the reach of flags
        (b"(a)(?:b)(?P<n>c)(?<m>d)", "(?:a)(?:b)(?:c)(?:d)"),
        (b"a|(|b)", "a|(?:|b)"),
        (b"(?i:a)a", "(?:[Aa])a"),
        (b"((?i)a)a", "(?:[Aa])a"),
        (b"(?i)(a)", "(?:[Aa])"),
        (b"a(?i)b|c", "a[Bb]|[Cc]"),
        (b"(?i)a(?-i:b(?i)c)d", "[Aa](?:b[Cc])[Dd]"),
        (b"(?is-im).", ANY),
        (b"(?U)a*?", "a*"),
        # repetitions
        (b"a*b+?c??d{2}e{2,}?f{0,3}", "a*b+c?d{2}e{2,}f{0,3}"),
        (b"(ab)*[ab]+.?", r"(?:ab)*[a-b]+[\x00-\x09\x0b-\xff]?"),
        (rb"\Qab\E+", "ab+"),
        (b"^*", r"\A*"),
        (b"a{,2}b{c{01}d{1,02}", r"a\x7b\x2c2\x7db\x7bc\x7b01\x7dd\x7b1\x2c02\x7d"),
    ],
)
def test_a_pattern_and_what_it_becomes(pattern: bytes, expected: str) -> None:
    assert agree(pattern, [pattern, EVERY_BYTE, b"", b"a", b"ab\ncd"])
    assert translate(pattern) == f"(?-u){expected}"


@pytest.mark.parametrize(
    "pattern",
    [
        rb"a\Q\E+",  # of what? RE2 repeats the a
        b"a(?i)*",
        b"a+(?i)?",  # RE2 repeats a+, another would be lazy
        b"(" * (MAX_NESTING + 1) + b"a" + b")" * (MAX_NESTING + 1),
        b"(?:" + b"a" * (MAX_WEIGHT // 1_000 + 1) + b"){1000}",
        b"(?:(?:(?:[acegikmoqsuwy]{10}){10}){10})",
        b"[acegikmoqsuwy]{1000,}",
    ],
)
def test_what_is_in_doubt_stays_with_re2(pattern: bytes) -> None:
    compile_pattern(pattern)
    assert translate(pattern) is None


def test_what_is_just_small_enough() -> None:
    nested = b"(" * (MAX_NESTING - 1) + b"a" + b")" * (MAX_NESTING - 1)
    assert translate(nested) == "(?-u)" + "(?:" * (MAX_NESTING - 1) + "a" + ")" * (MAX_NESTING - 1)
    repeated = b"(?:" + b"a" * (MAX_WEIGHT // 1_000) + b"){1000}"
    assert translate(repeated) == f"(?-u){repeated.decode()}"


@pytest.mark.parametrize("flags", ["", "i", "s", "is"])
def test_every_byte_alone_and_every_escape_is_what_it_is_to_re2(flags: str) -> None:
    escapes = [b"\\x%02x" % byte for byte in EVERY_BYTE]
    special = [rb"\d", rb"\D", rb"\s", rb"\S", rb"\w", rb"\W", rb"\C", rb"\pL", rb"\PL", rb"\p{Lu}", rb"\pS", b"."]
    texts = [bytes([byte]) for byte in EVERY_BYTE]
    for token in (*escapes, *special, *(b"[^%s]" % escape for escape in escapes)):
        assert agree(b"(?%s:%s)" % (flags.encode(), token), texts)


POSIX = ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper"]


@pytest.mark.parametrize("name", [*POSIX, "word", "xdigit"])
def test_classes_of_posix(name: str) -> None:
    texts = [bytes([byte]) for byte in EVERY_BYTE]
    assert all(agree(form % name.encode(), texts) for form in (b"[[:%s:]]", b"[[:^%s:]]", b"(?i)[^[:%s:]]"))


literals = st.sampled_from([bytes([byte]) for byte in b"abkK1_ \n\xe9\xc9\xff\x00#-&,:{}]"])
escapes = st.sampled_from([rb"\n", rb"\x6b", rb"\x{e9}", rb"\101", rb"\0", rb"\.", rb"\\", rb"\]", rb"\-", rb"\^"])
characters = literals | escapes
groups = st.sampled_from([rb"\d", rb"\D", rb"\s", rb"\S", rb"\w", rb"\W", rb"\pL", rb"\P{Lu}", rb"\p{^Greek}"])
pieces = (
    characters
    | groups
    | st.builds(lambda low, high: low + b"-" + high, characters, characters)
    | st.sampled_from([b"[:alpha:]", b"[:^word:]", b"[:", b"[", b"-", b"--", b"&&", b"^", b"."])
)
classes = st.builds(
    lambda start, inside: start + b"".join(inside) + b"]",
    st.sampled_from([b"[", b"[^", b"[]", b"[^]"]),
    st.lists(pieces, max_size=4),
)
edges = st.sampled_from([b"^", b"$", rb"\A", rb"\z", rb"\b", rb"\B"])
quoted = st.builds(lambda inside: b"\\Q" + inside + b"\\E", st.sampled_from([b"", b"a", b"k.*", b"\\", b"[a"]))
switches = st.sampled_from([b"(?i)", b"(?s)", b"(?m)", b"(?-i)", b"(?m-s)", b"(?U)", b"(?)"])
openings = st.sampled_from([b"(", b"(?:", b"(?i:", b"(?s:", b"(?m-i:", b"(?im-s:", b"(?-m:"])
amounts = st.sampled_from(
    [b"", b"", b"", b"*", b"+", b"?", b"??", b"*?", b"{0}", b"{2}", b"{1,3}", b"{2,}?", b"{,2}", b"{02}"]
)
atoms = characters | classes | groups | edges | quoted | switches | st.just(b".") | st.just(rb"\C")
patterns = st.recursive(
    atoms,
    lambda inner: (
        st.builds(bytes.__add__, inner, amounts)
        | st.builds(lambda opening, inside: opening + b"".join(inside) + b")", openings, st.lists(inner, max_size=3))
        | st.lists(inner, min_size=2, max_size=4).map(b"".join)
        | st.lists(inner, min_size=2, max_size=3).map(b"|".join)
    ),
    max_leaves=8,
)
texts = st.lists(st.sampled_from(list(b"abkK1_ \n\xe9\xc9\xff\x00.-]")), max_size=8).map(bytes) | st.binary(max_size=4)


@given(patterns, st.lists(texts, min_size=1, max_size=8))
@example(b"[!-[:alpha:]]", [b"Z:]", b":]", b"alph:]"])
@example(rb"(?i:a\Qb\E(?-i)c)d|\Bx*", [b"ABc", b"ABC", b""])
def test_a_pattern_and_its_translation_are_found_in_the_same_texts(pattern: bytes, texts: list[bytes]) -> None:
    assume(is_pattern(pattern) and translate(pattern) is not None)
    assert agree(pattern, texts)


@given(st.lists(st.sampled_from([bytes([byte]) for byte in rb"ab\[]()?*+{}1,2-^$|:.QEpLdsbzxi<>P="]), max_size=12))
def test_so_are_patterns_out_of_the_blue(parts: list[bytes]) -> None:
    pattern = b"".join(parts)
    assume(is_pattern(pattern) and translate(pattern) is not None)
    assert agree(pattern, [b"", b"a", b"b", b"ab", b"1a2b", b"\n", b"-]", b"x", pattern])


def is_pattern(pattern: bytes) -> bool:
    try:
        compile_pattern(pattern)
    except ValueError:
        return False
    return True


def test_patterns_have_a_length_and_re2_has_words_for_the_rest() -> None:
    with pytest.raises(ValueError, match=f"^{MAX_PATTERN + 1} bytes: expected at most {MAX_PATTERN}$"):
        compile_pattern(b"a" * (MAX_PATTERN + 1))
    with pytest.raises(ValueError, match=r"^missing \): \(a$"):
        compile_pattern(b"(a")


def test_a_class_as_long_as_a_pattern_may_be() -> None:
    assert translate(b"[" + b"ab" * (MAX_PATTERN // 2 - 1) + b"]") == "(?-u)[a-b]"
