// Shows one file in the page and reads back what is seen of it, as 16 x 16 means on a white and on a dark ground.
(() => {
  const SQUARES = 16;
  const GROUNDS = { white: "rgb(255, 255, 255)", dark: "rgb(0, 0, 0)" };

  // One set of means is 16 x 16 x 3 numbers, by rows. Borders are rounded down, as in means.py.
  function means(source, width, height, ground) {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = GROUNDS[ground];
    context.fillRect(0, 0, width, height);
    context.drawImage(source, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height).data;
    const found = [];
    for (let row = 0; row < SQUARES; row++) {
      const top = Math.floor((row * height) / SQUARES);
      const bottom = Math.max(top + 1, Math.floor(((row + 1) * height) / SQUARES));
      for (let column = 0; column < SQUARES; column++) {
        const left = Math.floor((column * width) / SQUARES);
        const right = Math.max(left + 1, Math.floor(((column + 1) * width) / SQUARES));
        const sums = [0, 0, 0];
        for (let y = top; y < bottom; y++)
          for (let x = left; x < right; x++)
            for (let channel = 0; channel < 3; channel++) sums[channel] += pixels[(y * width + x) * 4 + channel];
        found.push(...sums.map((sum) => sum / ((bottom - top) * (right - left))));
      }
    }
    return found;
  }

  function look(source, width, height) {
    return { white: means(source, width, height, "white"), dark: means(source, width, height, "dark") };
  }

  // The element as it is after loading, which is also true of a picture that is cut off.
  async function element(url) {
    const image = new Image();
    const loaded = await new Promise((resolve) => {
      image.onload = () => resolve(true);
      image.onerror = () => resolve(false);
      image.src = url;
    });
    await image.decode().catch(() => {});
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    return { width, height, look: loaded && width > 0 && height > 0 ? look(image, width, height) : null };
  }

  // Composited frames, those of `wanted` (-1: the last). ImageDecoder is the browser's own decoder of animations.
  async function frames(url, type, wanted) {
    if (!(await ImageDecoder.isTypeSupported(type))) return { count: 0, looks: {} };
    const content = await (await fetch(url)).arrayBuffer();
    const decoder = new ImageDecoder({ data: content, type });
    try {
      await decoder.completed;
      await decoder.tracks.ready;
      const count = decoder.tracks.selectedTrack.frameCount;
      const looks = {};
      // The look of the element counts for a still picture.
      if (count < 2) return { count, looks };
      for (const index of wanted) {
        const frameIndex = index < 0 ? count + index : index;
        if (frameIndex in looks || frameIndex >= count) continue;
        try {
          const { image } = await decoder.decode({ frameIndex, completeFramesOnly: false });
          looks[frameIndex] = look(image, image.displayWidth, image.displayHeight);
          image.close();
        } catch {
          looks[frameIndex] = null;
        }
      }
      return { count, looks };
    } catch {
      return { count: 0, looks: {} };
    } finally {
      decoder.close();
    }
  }

  // Puts a picture on the page and returns when its size is known, or after a second; placed() waits for the rest.
  async function place(url, level) {
    document.documentElement.style.background = `rgb(${level}, ${level}, ${level})`;
    document.body.style.margin = 0;
    const image = new Image();
    image.decoding = "sync";
    image.style.display = "block";
    const ended = new Promise((resolve) => {
      image.onload = () => resolve(true);
      image.onerror = () => resolve(false);
    });
    document.body.replaceChildren(image);
    image.src = url;
    globalThis.oracle.ended = ended;
    const until = performance.now() + 1000;
    while (image.naturalWidth === 0 && performance.now() < until)
      await Promise.race([ended, new Promise((resolve) => requestAnimationFrame(resolve))]);
  }

  // Returns the size of the picture; one that cannot be shown is taken away, with the sign for a broken picture.
  async function placed() {
    const image = document.images[0];
    const shown = await globalThis.oracle.ended;
    const size = [image.naturalWidth || 16, image.naturalHeight || 16];
    if (!shown) image.remove();
    return size;
  }

  function clear() {
    document.documentElement.style.background = "";
    document.body.replaceChildren();
  }

  globalThis.oracle = { element, frames, place, placed, clear };
})();
