// Collects the pictures from files and folders that are dropped on the page.

/** Most pictures that are taken out of folders at once, and most entries that are looked at for them. */
export const MOST = 500;
const MOST_ENTRIES = 10_000;
const PICTURE = /\.(png|jpe?g|jfif|webp|gif|bmp|dib|tiff?|avif|hei[cf])$/i;

/**
 * Returns the files to upload: each dropped file, and from dropped folders, at any depth, each file named like a picture.
 * `skipped` counts the other files, `unread` the entries that could not be opened; `more` is true if the search stopped early.
 */
export async function picturesIn(entries) {
  const found = { files: [], folders: entries.filter((entry) => entry.isDirectory), skipped: 0, unread: 0, more: false };
  const take = async (entry) => {
    try {
      found.files.push(entry.isFile ? await new Promise((done, fail) => entry.file(done, fail)) : entry);
    } catch {
      found.unread++;
    }
  };
  for (const entry of entries) if (!entry.isDirectory) await take(entry);
  const search = [...found.folders];
  let looked = 0;
  for (const folder of search) {
    for (const entry of await inside(folder, () => found.unread++)) {
      if (found.files.length >= MOST || ++looked > MOST_ENTRIES) return { ...found, more: true };
      if (entry.isDirectory) search.push(entry);
      else if (entry.name.startsWith(".") || !PICTURE.test(entry.name)) found.skipped++;
      else await take(entry);
    }
  }
  return found;
}

/** Returns the entries of a folder, sorted by name; the browser reads them in blocks. */
async function inside(folder, failed) {
  const reader = folder.createReader(), all = [];
  const piece = () => new Promise((done, fail) => reader.readEntries(done, fail));
  try {
    for (let some; all.length <= MOST_ENTRIES && (some = await piece()).length; ) all.push(...some);
  } catch {
    failed();
  }
  return all.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}
