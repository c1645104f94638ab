// numpy's .npz (a zip of .npy, not compressed) as typed arrays. No DOM.

const TYPES = { "<f8": Float64Array, "<i8": BigInt64Array, "<f4": Float32Array, "<i4": Int32Array, "|b1": Uint8Array, "|u1": Uint8Array };

export function readNpz(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error("not an npz file");
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const found = {};
  for (let i = 0; i < count; i++) {
    if (view.getUint16(at + 10, true) !== 0) throw new Error("a compressed npz file");
    const size = view.getUint32(at + 20, true);
    const [nameLength, extra, comment] = [28, 30, 32].map((o) => view.getUint16(at + o, true));
    const local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, nameLength)).replace(/\.npy$/, "");
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    found[name] = readNpy(buffer.slice(start, start + size));
    at += 46 + nameLength + extra + comment;
  }
  return found;
}

export function readNpy(buffer) {
  const view = new DataView(buffer);
  const two = view.getUint8(6) >= 2;
  const length = two ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (two ? 12 : 10) + length;
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, two ? 12 : 10, length));
  const type = /'descr': '([^']+)'/.exec(header)?.[1];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").map((s) => s.trim()).filter(Boolean).map(Number);
  if (/^<U\d+$/.test(type ?? "")) return { shape, data: textsOf(buffer.slice(start), Number(type.slice(2))) };
  if (!TYPES[type] || /'fortran_order': True/.test(header)) throw new Error(`an array of type ${type}`);
  return { shape, data: new TYPES[type](buffer.slice(start)) };
}

// Texts of `length` code points each, with zeros behind those that are shorter.
function textsOf(buffer, length) {
  const points = new Uint32Array(buffer);
  return Array.from({ length: length ? points.length / length : 0 }, (_, k) => String.fromCodePoint(...points.subarray(k * length, (k + 1) * length).filter((c) => c > 0)));
}
