"""Longer texts of the model: a sample of Markdown, and answers of any length that need splitting. Pure."""

from __future__ import annotations

from itertools import cycle

MARKDOWN_SAMPLE = """# A sample of Markdown

This has **bold**, *italic*, ~~struck~~ and `inline code`, and [a link](https://example.com/page).

- first point
- second point
  - a point below it
1. one
2. two

> A quotation of one line.

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

That is all."""

LONG_CHARACTERS = 6_000
"""Enough to need two Telegram messages."""

_SENTENCES = (
    "It helps to look at one part at a time.",
    "The **first thing** to know is where it begins.",
    "Most people notice the small details only later.",
    "There is an *old saying* that patience pays.",
    "What was said before still holds here.",
    "Numbers alone seldom tell the whole story.",
    "Compare it with `something simple` and the shape appears.",
    "In the end, practice decides.",
)
_CODE = """```python
def count(words: list[str]) -> dict[str, int]:
    seen: dict[str, int] = {}
    for word in words:
        seen[word] = seen.get(word, 0) + 1
    return seen
```"""


def long_answer(topic: str, *, words: int | None = None) -> str:
    """Markdown about a topic: exactly `words` words, or more than 4096 characters when no number is given.

    Short ones are plain text; from 200 words on there are headings, lists and a block of code.
    """
    if words is not None and words < 200:
        return _exactly(f"About {topic}: " + " ".join(_take(words)), words)
    blocks: list[str] = [f"# About {topic}"]
    lines = cycle(_SENTENCES)
    part = 0
    while not _enough(blocks, words):
        part += 1
        blocks.append(f"## Part {part}")
        blocks.append(" ".join(next(lines) for _ in range(5)))
        blocks.append("\n".join(f"- **Point {number}:** {next(lines)}" for number in range(1, 4)))
        if part % 2 == 1:
            blocks.append(_CODE)
    text = "\n\n".join(blocks)
    return text if words is None else _exactly(text, words)


def _enough(blocks: list[str], words: int | None) -> bool:
    text = "\n\n".join(blocks)
    return len(text) > LONG_CHARACTERS if words is None else len(text.split()) >= words


def _take(words: int) -> list[str]:
    taken: list[str] = []
    for sentence in cycle(_SENTENCES):
        if len(taken) >= words:
            return taken
        taken.extend(sentence.split())
    return taken


def _exactly(text: str, words: int) -> str:
    """The text cut after so many words, an open block of code closed."""
    end, left = 0, max(1, words)
    while left:
        while end < len(text) and text[end].isspace():
            end += 1
        while end < len(text) and not text[end].isspace():
            end += 1
        left -= 1
    cut = text[:end]
    return cut + "\n```" if cut.count("```") % 2 else cut
