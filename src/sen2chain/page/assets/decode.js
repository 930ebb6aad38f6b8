// Undoes what sen2chain.page.encoding does: base64, zlib, bytes apart, differences of neighbours.
"use strict";

const TYPES = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
};

/** The number of each type that stands for a missing value. */
const MISSING = { int16: -32768, int32: -2147483648 };

/** Bytes of a base64 text. */
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Inflate a zlib stream with the browser's own decoder. */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Unpack an array, or JSON. */
async function unpack(packed) {
  const bytes = await inflate(bytesOf(packed.data));
  if (packed.type === "json") return JSON.parse(new TextDecoder().decode(bytes));
  const Type = TYPES[packed.type], n = packed.length, array = new Type(n);
  // Numbers wrap around when they are stored, so that a plain sum undoes the differences.
  let sum = 0;
  switch (Type.BYTES_PER_ELEMENT) {
    case 1:
      for (let i = 0; i < n; i++) array[i] = sum = (sum + bytes[i]) | 0;
      break;
    case 2:
      for (let i = 0; i < n; i++) array[i] = sum = (sum + (bytes[i] | (bytes[n + i] << 8))) | 0;
      break;
    default:
      for (let i = 0; i < n; i++) {
        sum = (sum + (bytes[i] | (bytes[n + i] << 8) | (bytes[2 * n + i] << 16) | (bytes[3 * n + i] << 24))) | 0;
        array[i] = sum;
      }
  }
  return array;
}

/** The content of a data element. */
function dataOf(id) {
  return JSON.parse(document.getElementById(id).textContent);
}
