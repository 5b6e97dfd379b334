// node build.mjs WIT OUT [FEATURE…]: makes `tally.js` a component; the features are those left out.
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const [, , witPath, out, ...disableFeatures] = process.argv;
const sourcePath = fileURLToPath(new URL('tally.js', import.meta.url));
const { component } = await componentize({ sourcePath, witPath, worldName: 'daemon', disableFeatures });
await writeFile(out, component);
