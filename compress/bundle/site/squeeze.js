/** Run by node with a quality of brotli (9 to 11) and files: FILE.br and FILE.gz beside each. */
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const [quality, ...files] = process.argv.slice(2);
for (const file of files) {
  const content = readFileSync(file);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: Number(quality),
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
    [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
  };
  writeFileSync(file + ".br", brotliCompressSync(content, { params }));
  writeFileSync(file + ".gz", gzipSync(content, { level: 9 }));
}
