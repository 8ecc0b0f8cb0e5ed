"""
What the offline model says about itself and to greet, in the languages that it has been given. Data only.

It translates nothing: it looks up its own sentences. So every sentence that it may be asked to repeat in another
language stands here, under the English original.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HELLO: Final = "Hello, it is nice to meet you!"
HELLO_AGAIN: Final = "Hello again, it is good to hear from you!"
WELCOME: Final = "You are welcome!"
GOODBYE: Final = "Goodbye, and take care!"
WHO: Final = (
    "I am the small offline model that comes with Holdfast: a few fixed rules for development, not a language model."
)
HOW_TO: Final = (
    "For real answers, set HOLDFAST_MODEL (for example anthropic:claude-sonnet-4-5) and HOLDFAST_MODEL_KEY, "
    "and start the server again."
)
ABILITIES: Final = (
    "I can greet you, repeat what was said, tell the time, add numbers, count, think aloud, and ask you something."
)
CANNOT: Final = f"I cannot answer that. {WHO} {ABILITIES} {HOW_TO}"

TRANSLATIONS: Final[Mapping[str, Mapping[str, str]]] = {
    HELLO: {
        "french": "Bonjour, ravi de faire votre connaissance !",
        "german": "Hallo, schön, Sie kennenzulernen!",
        "spanish": "¡Hola, encantado de conocerte!",
        "italian": "Ciao, piacere di conoscerti!",
    },
    HELLO_AGAIN: {
        "french": "Rebonjour, cela fait plaisir de vous lire !",
        "german": "Hallo noch einmal, schön, von Ihnen zu hören!",
        "spanish": "¡Hola de nuevo, me alegra saber de ti!",
        "italian": "Ciao di nuovo, è bello sentirti!",
    },
    WELCOME: {
        "french": "Je vous en prie !",
        "german": "Gern geschehen!",
        "spanish": "¡De nada!",
        "italian": "Prego!",
    },
    GOODBYE: {
        "french": "Au revoir, et prenez soin de vous !",
        "german": "Auf Wiedersehen, und alles Gute!",
        "spanish": "¡Adiós, y cuídate!",
        "italian": "Arrivederci, e stammi bene!",
    },
    WHO: {
        "french": "Je suis le petit modèle hors ligne fourni avec Holdfast : quelques règles fixes pour le développement, "
        "pas un modèle de langage.",
        "german": "Ich bin das kleine Offline-Modell, das mit Holdfast kommt: ein paar feste Regeln für die Entwicklung, "
        "kein Sprachmodell.",
        "spanish": "Soy el pequeño modelo sin conexión que viene con Holdfast: unas pocas reglas fijas para el desarrollo, "
        "no un modelo de lenguaje.",
        "italian": "Sono il piccolo modello offline incluso in Holdfast: poche regole fisse per lo sviluppo, "
        "non un modello linguistico.",
    },
}
"""English sentence → language → the same sentence."""

REPHRASED: Final[Mapping[str, str]] = {
    HELLO: "Good day, I am glad to make your acquaintance!",
    HELLO_AGAIN: "Good to see you back!",
    WELCOME: "No trouble at all!",
    GOODBYE: "So long, and all the best!",
    WHO: "There is no language model behind me: I am a handful of rules that Holdfast brings along for development.",
}

LANGUAGES: Final[Mapping[str, str]] = {
    "french": "French",
    "français": "French",
    "german": "German",
    "deutsch": "German",
    "spanish": "Spanish",
    "español": "Spanish",
    "italian": "Italian",
    "italiano": "Italian",
    "english": "English",
}
"""How a language may be called, in lower case → its English name."""


def original(sentence: str) -> str | None:
    """The English original of a sentence of ours, in whatever language it was said; None: it is none of ours."""
    if sentence in TRANSLATIONS:
        return sentence
    for english, translations in TRANSLATIONS.items():
        if sentence in translations.values() or REPHRASED.get(english) == sentence:
            return english
    return None


def in_language(sentence: str, language: str) -> str | None:
    """A sentence of ours in this language (its English name); None: we do not have it."""
    english = original(sentence)
    if english is None:
        return None
    return english if language == "English" else TRANSLATIONS[english].get(language.lower())
