"""Word list of code and documents: vague names, spellings, and phrases with a plainer form."""

import re

VAGUE_PARTS = frozenset({"found", "told", "seen", "wanted", "asked"})
"""Words that no name contains: they say that something was got, not what it is."""

VAGUE_NAMES = frozenset(
    {
        *("kept", "own", "each", "made", "given", "said", "taken", "listed", "shown", "chosen"),
        *(
            "known",
            "drawn",
            "named",
            "counted",
            "stated",
            "joined",
            "reached",
            "marked",
            "answered",
        ),
    }
)
"""Words that are no name on their own; with a noun they may be (``kept_boxes``)."""

FIRST_WORDS = frozenset(
    {"What", "Whether", "Where", "How", "Of", "That", "For", "With", "As", "Who", "Which", "When"}
)
"""Words that no docstring begins with."""

PACKAGE_REGISTRIES = re.compile(r"\b(pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian)\b")
"""Hosts that no file names: a package has a name."""

PHRASES = {
    r"\btells?\b|\btold\b|\btelling\b": "say, print, report",
    r"\bstands? (for|in for|there|beside|here|at|in)\b": "represent, replace, is",
    r"\bgoes on\b|\bgo on\b|\bwent on\b": "continue, resume",
    r"\bcomes? again\b": "be repeated, be seen again",
    r"\b(make|makes|made) of\b": "compute from, built from",
    r"\bgives? back\b": "return, release",
    r"\b(of|on) (its|their) own\b": "separate, its ...",
    r"\bat rest\b": "frozen",
    r"\bmakes? do\b": "work without",
    r"\btakes? over\b": "inherit, replace",
    r"\bhas to do\b|\bhave to do\b": "compute",
    r"\b(leaves? (it |them )?|left )alone\b": "not change",
    r"\bsays? (that|what|so|how|where|which)\b": "name the thing and use is, prints, states",
    r"\bis kept\b|\bare kept\b": "is cached, is saved, is stored",
    r"\bnobody\b": "no process, no user",
    r"\bso (many|much)\b(?! (that|as|more|less)\b)": "this number, this amount, N",
    r"\bas (it is|they are)\b": "unchanged, raw",
    r"\brepeats? nothing\b": "do nothing",
    r"\b(is|are|was|were) said\b": "is stated",
    r"\bbut for\b": "except",
    r"\ball else\b": "all others",
    r"\bbrings? up\b": "start",
    r"\btakes? apart\b|\btaken apart\b": "divide into parts",
    r"\bin (the|its|their) (place|stead) of\b": "instead of, replaces",
    r"\b(is|are) (at hand|to be had)\b": "is available",
    r"\bis worth\b": "state the number",
    r"\bamong (it|them) (is|are)\b": "includes",
    r"\b(whence|thence|lest|wherein|whereby|thereof|hereby|heretofore)\b": "a word of today",
    r"\b(as|so) soon\b(?! as)": "faster, N times as fast",
}
"""Patterns in docstrings, comments, messages and documents, each with the plain form."""

DOCUMENT_PHRASES = PHRASES | {
    r"(?<!one )(?<!each )(?<!all )(?<!some )(?<!none )\bof which\b": "of these; begin a sentence",
    r"\bnot among ours\b": "is not implemented",
    r"\bby a reading note\b": "from a reading note",
    r"\bgives? (it|them) up\b": "stop",
}
"""Patterns in documents, configurations, captions and templates, each with the plain form."""

BRITISH = re.compile(
    r"\b\w*(colour|behaviour|neighbour|favour|centre[ds]?\b|artefact|judgement|licence|catalogue"
    r"|(normal|optim|synchron|initial|recogn|summar|organ|serial|visual|util|quant|regular|random"
    r"|minim|maxim|general|special|real|item|token|priorit|standard|capital)is(e|es|ed|er|ing|ation)"
    r"|analys(e|es|ed|er|ing)\b|labell|modell(ed|ing)|travell|grey)\w*",
    re.IGNORECASE,
)
"""Spellings that torch does not use."""

BRITISH_EXCEPTIONS = frozenset({"analyses", "exercise", "likewise", "otherwise"})
"""Words of American English that the pattern would find: the plural of analysis."""

BRITISH_SETTINGS = re.compile(
    r"\bsize[_ ]normalised\b|(?<=[\"'`])normalised(?=[\"'`])|(?<=form: )normalised\b"
    r"|(?<=[\"'`])analyse(?=[\"'`])"
)
"""A setting of Mimic and a value of FitNets' ``form``, both part of the digests of runs, and the
earlier name of ``kd figures``."""
