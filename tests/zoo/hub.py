"""The image classifiers of KerasHub, built small from their configurations, with random weights."""

from collections.abc import Callable
from typing import Any

import keras
import keras_hub
from classifiers import CLASSES

from zoo.case import Case, bare_logits, photographs
from zoo.tokens import patches, varied

SIZE = 48
TOKENS = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
PLAIN = {"image_shape": (SIZE, SIZE, 3), "name": "backbone"}


def _of(kind: str, configuration: dict[str, Any], **head: Any) -> Callable[[], keras.Model]:
    """Return what builds the classifier of `kind` around a backbone of `configuration`."""

    def build() -> keras.Model:
        backbone = getattr(keras_hub.models, f"{kind}Backbone")(**configuration)
        return getattr(keras_hub.models, f"{kind}ImageClassifier")(backbone=backbone, num_classes=CLASSES, **head)

    return build


VIT = {**TOKENS, "mlp_dim": 32, "name": "backbone"}
DEIT = {**TOKENS, "intermediate_dim": 32, "name": "backbone"}
SWIN = {
    "image_shape": (32, 32, 3),
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 2,
    "patch_size": 4,
    "name": "backbone",
}
RESNET = {
    **PLAIN,
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 16],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_strides": [1, 2],
    "block_type": "bottleneck_block",
}
EFFICIENTNET = {
    "input_shape": (SIZE, SIZE, 3),
    "name": "backbone",
    "stackwise_kernel_sizes": [3, 3, 3],
    "stackwise_num_repeats": [1, 2, 1],
    "stackwise_input_filters": [8, 8, 16],
    "stackwise_output_filters": [8, 16, 16],
    "stackwise_expansion_ratios": [1, 4, 4],
    "stackwise_strides": [1, 2, 1],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25, 0.25],
    "stackwise_block_types": ["v1", "unfused", "fused"],
    "stackwise_width_coefficients": [1.0, 1.0, 1.0],
    "stackwise_depth_coefficients": [1.0, 1.0, 1.0],
    "stackwise_force_input_filters": [0, 0, 0],
    "stackwise_nores_option": [False, False, False],
    "num_features": 24,
}
DENSENET = {**PLAIN, "stackwise_num_repeats": [2, 2], "growth_rate": 8}
VGG = {**PLAIN, "stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 12]}
XCEPTION = {**PLAIN, "stackwise_conv_filters": [[8, 12], [12, 16], [16, 16]], "stackwise_pooling": [True, True, False]}
CSPNET = {
    **PLAIN,
    "stem_filters": 8,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stackwise_depth": [1, 2],
    "stackwise_strides": [2, 2],
    "stackwise_num_filters": [12, 16],
    "block_type": "dark_block",
    "stage_type": "dark",
}
HGNET = {
    **PLAIN,
    "depths": [1, 1],
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "stem_channels": [3, 8, 8],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "stackwise_stage_filters": [(8, 8, 8, 1, 2, 3), (8, 8, 16, 1, 2, 3)],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
}
MOBILENET = {
    **PLAIN,
    "stackwise_expansion": [[16], [24, 24]],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_filters": [[8], [16, 16]],
    "stackwise_kernel_size": [[3], [5, 5]],
    "stackwise_num_strides": [[2], [2, 1]],
    "stackwise_se_ratio": [[None], [0.25, 0.25]],
    "stackwise_activation": [["relu"], ["hard_swish", "hard_swish"]],
    "stackwise_padding": [[1], [2, 2]],
    "output_num_filters": 24,
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "last_layer_filter": 16,
    "squeeze_and_excite": 0.5,
    "input_num_filters": 8,
}
MIT = {
    **PLAIN,
    "layerwise_depths": [1, 1],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [2, 1],
    "max_drop_path_rate": 0.1,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
    "hidden_dims": [8, 16],
}


def _case(name: str, build: Callable[[], keras.Model], layer: str, grid: tuple[int, int], **more: Any) -> Case:
    more = {"inputs": photographs(SIZE, SIZE, 3), "logits": bare_logits, **more}
    return Case(
        family="KerasHub", name=f"KerasHub {name}", build=build, layer=layer, grid=grid, condition=varied, **more
    )


def _tokens(name: str, build: Callable[[], keras.Model], layer: str, **more: Any) -> Case:
    return _case(name, build, layer, (4, 4), inputs=photographs(32, 32, 3), arrange=patches(4, 4), **more)


CASES = (
    _tokens("ViT, class token", _of("ViT", VIT), "backbone/vit_encoder/transformer_block_1", large=True),
    _tokens("ViT, pooled", _of("ViT", {**VIT, "use_class_token": False}, pooling="gap"), "backbone/vit_encoder/ln"),
    _tokens("DeiT", _of("DeiT", DEIT), "backbone/deit_encoder/transformer_block_1/output_layer", large=True),
    _tokens("Swin", _of("SwinTransformer", SWIN), "backbone/norm", large=True),
    _case("ResNet", _of("ResNet", RESNET), "backbone/stack1_block1_out", (6, 6)),
    _case("ResNetV2", _of("ResNet", {**RESNET, "use_pre_activation": True}), "backbone/post_relu", (6, 6), large=True),
    _case("EfficientNet", _of("EfficientNet", EFFICIENTNET), "backbone/top_activation", (12, 12), large=True),
    _case("DenseNet", _of("DenseNet", DENSENET), "backbone/relu", (6, 6), large=True),
    _case("VGG", _of("VGG", VGG, pooling_hidden_dim=24), "head/fc2", (6, 6)),
    _case("Xception", _of("Xception", XCEPTION), "backbone/block3_sepconv2_act", (6, 6)),
    _case("CSPNet", _of("CSPNet", CSPNET), "backbone/stage_1_block_1_dark_block_add", (12, 12)),
    _case("HGNetV2", _of("HGNetV2", HGNET, preprocessor=None, head_filters=24), "head_last/head_last_lab", (6, 6)),
    _case("MobileNet", _of("MobileNet", MOBILENET, num_features=24), "backbone/block_3_0/activation_7", (3, 3)),
    _case("MiT", _of("MiT", MIT), "backbone/layer_normalization_8", (6, 6), arrange=patches(6, 6), large=True),
)
