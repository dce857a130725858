"""Write the model card of every shipped entry beside its weights.

python benchmarks/write_cards.py
"""

from __future__ import annotations

from srzoo.card import Written, model_card
from srzoo.pretrained import load_model
from srzoo.ready import weights_path
from srzoo.zoo import get_zoo


def main() -> None:
    for name in get_zoo().names():
        entry = get_zoo().entry(name)
        if entry.weights is not None and not entry.self_ensemble:  # which shares the file, and so the card, of another
            path = weights_path(entry)
            path.with_suffix(".md").write_text(
                model_card(load_model(name), {"safetensors": Written(path.name, "srzoo")})
            )
            print(path.with_suffix(".md").name)


if __name__ == "__main__":
    main()
