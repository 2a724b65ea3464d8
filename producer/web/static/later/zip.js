// A zip file, built in the browser: entries as they are (stored), names in UTF-8. PKWARE's APPNOTE 4.3.7, 4.3.12, 4.3.16.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

export function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, VERSION = 20, UTF8 = 0x0800;

/** Little-endian fields: [size in bytes, value]. */
function record(...fields) {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

function dosTime(date) {
  const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
  return [time, ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate()];
}

/** files: [[name, Uint8Array], …]. Returns a Blob. */
export function zip(files, date = new Date()) {
  const [time, day] = dosTime(date);
  const parts = [], directory = [];
  let offset = 0, length = 0;
  for (const [name, data] of files) {
    const path = new TextEncoder().encode(name);
    const common = [[2, VERSION], [2, UTF8], [2, 0], [2, time], [2, day], [4, crc32(data)], [4, data.length], [4, data.length], [2, path.length], [2, 0]];
    const head = record([4, LOCAL], ...common);
    const entry = record([4, CENTRAL], [2, VERSION], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]);
    parts.push(head, path, data);
    directory.push(entry, path);
    offset += head.length + path.length + data.length;
    length += entry.length + path.length;
  }
  const end = record([4, END], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
