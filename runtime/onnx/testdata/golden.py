"""Writes the golden files of runtime/onnx.

    pip install -r requirements.txt     (rapidocr-onnxruntime with --no-deps)
    python golden.py

decode/NAME        a picture in some format, drawn here
decode/NAME.png    its pixels, as Pillow reads them
resize/*.png       resize/rgb.png and resize/gray.png in other sizes
steps.json         softmax, top labels and CTC text by numpy
npy/*              arrays as numpy saves them
models.json        what the two real models say to decode/line.png and decode/turned.png
"""

import importlib.util
import json
import pathlib
import shutil
import struct

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageDraw, ImageFont, ImageOps

HERE = pathlib.Path(__file__).parent
# Found without an import, which would want OpenCV.
MODELS = pathlib.Path(importlib.util.find_spec("rapidocr_onnxruntime").origin).parent / "models"


def scene(width, height, seed=7):
    """A picture with slopes, edges and some noise, which no two filters resize alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack(
        [
            255 * x / max(width - 1, 1),
            255 * y / max(height - 1, 1),
            127 + 120 * np.sin((x + y) / 5),
        ],
        axis=2,
    )
    rgb[(x // 9 + y // 7) % 3 == 0] = (250, 10, 90)
    rgb += rng.normal(0, 6, rgb.shape)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def text(words, size=28, pad=8):
    font = ImageFont.load_default(size)
    _, _, right, bottom = font.getbbox(words)
    line = Image.new("RGB", (int(right) + 2 * pad, int(bottom) + 2 * pad), "white")
    ImageDraw.Draw(line).text((pad, pad), words, fill="black", font=font)
    return line


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def upright(path):
    # Through an array, so that nothing but the pixels is kept.
    return Image.fromarray(np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")))


def sixteen(width, height):
    """A 16-bit picture whose upper bytes are the answer."""
    y, x = np.mgrid[0:height, 0:width]
    return ((x * 65535 // max(width - 1, 1)) ^ (y * 257)).astype(np.uint16)


def png16(path, samples):
    """Writes 16-bit RGB, which Pillow does not."""
    import zlib

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        f.writelines(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )


def decode():
    out = HERE / "decode"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    rgb = scene(61, 47)
    alpha = rgb.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))

    rgb.save(out / "rgb.png")
    rgb.convert("L").save(out / "gray.png")
    rgb.convert("1").save(out / "bilevel.png")
    rgb.quantize(17).save(out / "palette.png")
    rgb.quantize(17).save(out / "palette-transparent.png", transparency=3)
    alpha.save(out / "alpha.png")
    alpha.convert("LA").save(out / "gray-alpha.png")
    scene(1, 1).save(out / "one-pixel.png")
    for ext, more in (
        ("jpg", {"quality": 95, "subsampling": 0}),
        ("png", {}),
        ("webp", {"lossless": True}),
        ("tif", {}),
    ):
        for orientation in range(1, 9) if ext == "png" else (6,):
            rgb.save(out / f"turned-{orientation}.{ext}", exif=exif(orientation), **more)

    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        for width, height in ((61, 47), (64, 48), (3, 5)):
            scene(width, height).save(
                out / f"{name}-{width}x{height}.jpg",
                quality=85,
                subsampling=subsampling,
            )
    scene(1, 1).save(out / "one-pixel.jpg")
    rgb.save(out / "progressive.jpg", progressive=True, quality=80)
    rgb.convert("L").save(out / "gray.jpg", quality=85)
    rgb.convert("CMYK").save(out / "cmyk.jpg", quality=95)
    rgb.save(out / "rgb-adobe.jpg", keep_rgb=True, quality=90)

    for width, height in ((61, 47), (64, 48), (2, 1), (1, 2)):
        scene(width, height).save(out / f"lossy-{width}x{height}.webp", quality=80)
    rgb.save(out / "lossless.webp", lossless=True)
    alpha.save(out / "alpha.webp", quality=80, exact=True)
    frames = [scene(40, 30, seed) for seed in (1, 2)]
    frames[0].save(
        out / "animated.webp",
        save_all=True,
        append_images=frames[1:],
        duration=100,
        quality=80,
    )
    frames[0].save(out / "animated.png", save_all=True, append_images=frames[1:], duration=100)

    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        rgb.save(out / f"{name}.tif", compression=None if name == "raw" else name)
    rgb.convert("L").save(out / "gray.tif")
    rgb.convert("1").save(out / "bilevel.tif", compression="group4")
    rgb.quantize(17).save(out / "palette.tif")
    alpha.save(out / "alpha.tif")
    frames[0].save(out / "pages.tif", save_all=True, append_images=frames[1:])

    for path in sorted(out.iterdir()):
        upright(path).save(out / (path.name + ".png"), optimize=True)

    # Pillow clips 16-bit gray instead of scaling it, so the answer is numpy's here.
    gray = sixteen(40, 30)
    Image.fromarray(gray).save(out / "gray16.png")
    Image.fromarray(gray).save(out / "gray16.tif")
    for name in ("gray16.png", "gray16.tif"):
        Image.fromarray((gray >> 8).astype(np.uint8)).convert("RGB").save(
            out / (name + ".png"), optimize=True
        )
    color = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2)
    png16(out / "rgb16.png", color)
    Image.fromarray((color >> 8).astype(np.uint8)).save(out / "rgb16.png.png", optimize=True)

    for name, picture in (
        ("line", text("Serverless models stay warm 2026")),
        ("turned", text("Lisbon 48.5 kg").rotate(180)),
    ):
        picture.convert("L").save(out / f"{name}.png", optimize=True)
        upright(out / f"{name}.png").save(out / f"{name}.png.png", optimize=True)


FILTERS = {
    name: getattr(Image.Resampling, name.upper())
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
}


def resize():
    out = HERE / "resize"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    rgb = scene(61, 47, 11)
    rgb.save(out / "rgb.png", optimize=True)
    rgb.convert("L").save(out / "gray.png", optimize=True)
    for name, how in FILTERS.items():
        for width, height in (
            (20, 13),
            (97, 70),
            (61, 20),
            (130, 47),
            (1, 1),
            (7, 101),
        ):
            rgb.resize((width, height), how).save(
                out / f"stretch-{name}-{width}x{height}.png", optimize=True
            )
        for width, height in ((32, 32), (50, 20), (64, 100)):
            ImageOps.pad(rgb, (width, height), how, color=(114, 5, 250)).save(
                out / f"fit-{name}-{width}x{height}.png", optimize=True
            )
            ImageOps.fit(rgb, (width, height), how).save(
                out / f"fill-{name}-{width}x{height}.png", optimize=True
            )
        rgb.convert("L").resize((33, 19), how).save(out / f"gray-{name}-33x19.png", optimize=True)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def ctc(probabilities, characters):
    """Greedy: the best class of each step, without repeats and blanks (class 0)."""
    best = probabilities.argmax(axis=1)
    kept = [i for i in range(len(best)) if best[i] != 0 and (i == 0 or best[i] != best[i - 1])]
    score = float(np.mean([probabilities[i, best[i]] for i in kept])) if kept else 0.0
    return "".join(characters[best[i] - 1] for i in kept).strip(" "), score


def steps():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, 7).astype(np.float32)
    scores = softmax(logits.astype(np.float64))
    order = np.argsort(-scores, kind="stable")
    characters = ["a", "b", "é", "字", " "]
    # Runs of a class, so that repeats and blanks both occur.
    line = softmax(np.repeat(rng.normal(0, 3, (14, len(characters) + 1)), 2, axis=0)).astype(
        np.float32
    )
    said, score = ctc(line, characters)
    (HERE / "steps.json").write_text(
        json.dumps(
            {
                "logits": logits.tolist(),
                "order": order.tolist(),
                "scores": scores[order].tolist(),
                "characters": characters,
                "steps": line.tolist(),
                "text": said,
                "text_score": score,
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )


def npy():
    out = HERE / "npy"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    arrays = {
        "f4": np.arange(6, dtype="<f4").reshape(2, 3) / 2,
        "f8": np.array([0.1, -2, 1e300]),
        "f2": np.array([1.5, -65504], np.float16),
        "i8": np.array([[-1], [1 << 40]]),
        "u1": np.array([0, 1, 254, 255], np.uint8),
        "b1": np.array([True, False]),
        "big": np.array([1, -2], ">i4"),
        "scalar": np.array(7, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", array)
    for version in (2, 3):
        with open(out / f"v{version}.npy", "wb") as f:
            np.lib.format.write_array(f, np.array([2], np.float32), (version, 0))


def line_tensor(path, min_width, max_width=None):
    """Height 48, BGR, -1 to 1, zeros to the right, as PP-OCR wants it."""
    rgb = upright(path)
    width = int(np.ceil(48 * rgb.width / rgb.height))
    if max_width:
        width = min(width, max_width)
    samples = np.asarray(rgb.resize((width, 48), Image.Resampling.BILINEAR))[:, :, ::-1].astype(
        np.float64
    )
    samples = ((samples / 255 - 0.5) / 0.5).astype(np.float32)
    tensor = np.zeros((1, 3, 48, max(width, min_width)), np.float32)
    tensor[0, :, :, :width] = samples.transpose(2, 0, 1)
    return tensor


def models():
    rec = ort.InferenceSession(MODELS / "ch_PP-OCRv4_rec_infer.onnx")
    cls = ort.InferenceSession(MODELS / "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    characters = [*rec.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    answers = {}
    for name in ("line.png", "turned.png"):
        tensor = line_tensor(HERE / "decode" / name, 320)
        said, score = ctc(rec.run(None, {"x": tensor})[0][0], characters)
        angle_tensor = line_tensor(HERE / "decode" / name, 192, 192)
        angle = cls.run(None, {"x": angle_tensor})[0][0]
        answers[name] = {
            "width": tensor.shape[3],
            "tensor_sum": float(tensor.astype(np.float64).sum()),
            "tensor_head": tensor[0, :, 24, :16].tolist(),
            "text": said,
            "score": score,
            "angle_sum": float(angle_tensor.astype(np.float64).sum()),
            "angle": [float(v) for v in angle],
        }
    (HERE / "models.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    decode()
    resize()
    steps()
    npy()
    models()
