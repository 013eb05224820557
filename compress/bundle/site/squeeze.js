/** Run by node: FILE.br and FILE.gz beside each file that is named. */
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

for (const file of process.argv.slice(2)) {
  const content = readFileSync(file);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 9, // 11 takes minutes for the runtime, to save a tenth
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
    [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
  };
  writeFileSync(file + ".br", brotliCompressSync(content, { params }));
  writeFileSync(file + ".gz", gzipSync(content, { level: 9 }));
}
