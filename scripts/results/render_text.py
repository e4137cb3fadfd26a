"""Renders lines of English text to the inputs of PP-OCRv4's recogniser and direction classifier, seeded.

Usage: render_text.py OUT_DIR COUNT SEED
Writes rec.npz (x f32 [N,3,48,320]), rec.json (the N texts), cls.npz (x f32 [N,3,48,192], labels i64 [N]: 0 upright, 1 turned
by 180 degrees), det.npz (x f32 [M,3,320,320]: pages of lines). Pixels are normalised to (p/255 - 0.5) / 0.5 as PaddleOCR does.
The font is the one Pillow embeds, so the pictures depend on the pinned Pillow version alone.
"""

import json
import random
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = (
    "model weight tensor scale block channel sparse dense input output batch layer graph shader kernel buffer "
    "invoice total amount date number street city order price paid due tax item code north south river stone "
    "Friday Monday April August 2024 1987 4.50 12.99 #371 A4 B-17 x86 (draft) OK! yes/no 100% e-mail"
).split()


def line_of_text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3)))


def render_line(text: str, rng: random.Random, width: int, height: int) -> Image.Image:
    """Text on a plain ground, scaled to fit, with slight blur, noise and contrast changes."""
    font = ImageFont.load_default(size=rng.randint(24, 32))
    ground, ink = rng.randint(190, 255), rng.randint(0, 80)
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = probe.textbbox((0, 0), text, font=font)
    canvas = Image.new("L", (right - left + 16, bottom - top + 14), ground)
    ImageDraw.Draw(canvas).text((8 - left, 7 - top), text, font=font, fill=ink)
    ratio = min(width / canvas.width, height / canvas.height)
    canvas = canvas.resize((max(1, int(canvas.width * ratio)), max(1, int(canvas.height * ratio))), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    line = Image.new("L", (width, height), ground)
    line.paste(canvas, (0, (height - canvas.height) // 2))
    return line


def to_input(image: Image.Image, noise: np.random.Generator) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.float32)
    pixels = np.clip(pixels + noise.normal(0, 4, pixels.shape), 0, 255).astype(np.float32)
    return np.repeat(((pixels / 255 - 0.5) / 0.5)[None].astype(np.float32), 3, axis=0)


def main() -> None:
    out, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    texts = [line_of_text(rng) for _ in range(count)]
    rec = np.stack([to_input(render_line(text, rng, 320, 48), noise) for text in texts])
    np.savez(f"{out}/rec.npz", x=rec)
    with open(f"{out}/rec.json", "w", encoding="utf-8") as file:
        json.dump(texts, file)
    labels = np.array([rng.randint(0, 1) for _ in range(count)], dtype=np.int64)
    cls = []
    for label in labels:
        image = render_line(line_of_text(rng), rng, 192, 48)
        cls.append(to_input(image.rotate(180) if label else image, noise))
    np.savez(f"{out}/cls.npz", x=np.stack(cls), labels=labels)
    pages = []
    for _ in range(max(1, count // 16)):
        page = Image.new("L", (320, 320), 240)
        for row in range(6):
            page.paste(render_line(line_of_text(rng), rng, rng.randint(160, 300), 32), (rng.randint(0, 20), 10 + row * 50))
        pages.append(to_input(page, noise))
    np.savez(f"{out}/det.npz", x=np.stack(pages))


main()
