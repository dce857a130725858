"""pip install -e '.[test]' && pytest"""

import srzoo
import srzoo.testing

test_conforms = srzoo.testing.conformance("my-block")


def test_with_a_residual_scale_of_zero_it_passes_its_input_on():
    import torch

    block = srzoo.create("block", "my_block", channels=4, residual_scale=0.0)
    features = torch.rand(1, 4, 8, 8)
    assert torch.equal(block(features), features)
