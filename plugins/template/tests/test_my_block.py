"""pip install -e '.[test]' && pytest"""

import srzoo
import srzoo.testing

test_conforms = srzoo.testing.conformance("my-block")


def test_a_pixel_far_away_does_not_matter():
    import torch

    block = srzoo.create("block", "my_block", channels=4).eval()
    features = torch.rand(1, 4, 5, 64)
    changed = features.clone()
    changed[..., -1] = 0
    assert torch.equal(block(features)[..., :16], block(changed)[..., :16])
