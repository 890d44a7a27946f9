"""Roman numerals."""

VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def to_int(numeral):
    numeral = numeral.strip().upper()
    total = 0
    for symbol, following in zip(numeral, numeral[1:] + " "):
        value = VALUES[symbol]
        total += -value if value < VALUES.get(following, 0) else value
    if to_roman(total) != numeral:
        raise ValueError(f"{numeral!r} is no Roman numeral")
    return total


def to_roman(number):
    steps = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC")]
    steps += [(50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    written = ""
    for value, symbols in steps:
        written += symbols * (number // value)
        number %= value
    return written