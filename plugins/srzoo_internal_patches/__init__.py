"""Super-resolution from the image's own patches, without any training."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "internal_patches",
            "srzoo_internal_patches.generator:InternalPatches",
            summary="Detail from the image's own smaller copies, patch by patch, and back-projection; no training",
            paper="Glasner et al., ICCV 2009, doi:10.1109/ICCV.2009.5459271; Freedman and Fattal 2011, "
            "doi:10.1145/1944846.1944852",
            trainable=False,
            exempt={
                "torch-export": "it looks for patches in a k-d tree of SciPy, which is no graph of torch",
                "torch-compile": "it looks for patches in a k-d tree of SciPy, which is no graph of torch",
            },
        )
    ]
