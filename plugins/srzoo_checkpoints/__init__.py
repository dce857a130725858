"""How ESRGAN, BasicSR, mmagic, KAIR, EDSR and SRGAN's codes name the tensors of generators that the trunk can be."""

from srzoo import LayoutSpec, hookimpl


@hookimpl
def srzoo_layouts():
    rows = [
        (
            "basicsr-rrdbnet",
            "rrdb:BasicSR",
            "RRDBNet as BasicSR, Real-ESRGAN and mmagic name it",
            ("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight"),
            "params",
        ),
        (
            "esrgan",
            "rrdb:ESRGAN",
            "RRDBNet as ESRGAN's first code and KAIR name it, the community's most common form",
            ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
            "",
        ),
        (
            "esrgan-rrdbnet",
            "rrdb:LaterESRGAN",
            "RRDBNet as ESRGAN's later code, BSRGAN and KAIR name it",
            ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight", "trunk_conv.weight"),
            "",
        ),
        (
            "basicsr-msrresnet",
            "residual:MSRResNet",
            "MSRResNet as BasicSR names it",
            ("conv_first.weight", "body.0.conv1.weight", "conv_hr.weight", "upconv1.weight"),
            "params",
        ),
        (
            "mmagic-msrresnet",
            "residual:MMagicMSRResNet",
            "MSRResNet as mmagic names it",
            ("conv_first.weight", "trunk_net.0.conv1.weight", "conv_hr.weight"),
            "",
        ),
        (
            "kair-msrresnet",
            "residual:KAIRMSRResNet",
            "MSRResNet as ESRGAN's later code and KAIR name it",
            ("conv_first.weight", "recon_trunk.0.conv1.weight", "HRconv.weight"),
            "",
        ),
        (
            "esrgan-srresnet",
            "residual:SRResNet",
            "SRResNet without batch normalisation as ESRGAN's first code and KAIR name it",
            ("model.0.weight", "model.1.sub.0.res.0.weight"),
            "",
        ),
        (
            "leftthomas-srgan",
            "srgan:Leftthomas",
            "SRResNet with batch normalisation as leftthomas/SRGAN names it",
            ("block1.0.weight", "block2.conv1.weight", "block2.bn1.running_mean", "block2.prelu.weight"),
            "",
        ),
        (
            "lornatang-srgan",
            "srgan:Lornatang",
            "SRResNet with batch normalisation as Lornatang/SRGAN-PyTorch names it",
            ("conv_block1.0.weight", "trunk.0.rcb.1.running_mean", "conv_block3.weight"),
            "state_dict",
        ),
        (
            "edsr",
            "edsr:EDSRPyTorch",
            "EDSR as its authors' PyTorch code names it",
            ("head.0.weight", "body.0.body.0.weight", "tail.1.weight", "sub_mean.bias"),
            "",
        ),
        (
            "basicsr-edsr",
            "edsr:BasicSR",
            "EDSR as BasicSR names it",
            ("conv_first.weight", "body.0.conv1.weight", "conv_after_body.weight", "upsample.0.weight"),
            "params",
        ),
        (
            "mmagic-edsr",
            "edsr:MMagic",
            "EDSR as mmagic names it",
            ("conv_first.weight", "body.0.conv1.weight", "conv_after_body.weight", "upsample.0.upsample_conv.weight"),
            "",
        ),
    ]
    return [
        LayoutSpec(name, f"srzoo_checkpoints.{factory}", summary=summary, marks=marks, wrapper=wrapper)
        for name, factory, summary, marks, wrapper in rows
    ]
