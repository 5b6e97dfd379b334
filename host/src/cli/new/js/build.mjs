// Makes daemon.js the component {{wasm}}: the engine runs it once, and what that left in memory is part of it.
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  sourcePath: 'daemon.js',
  witPath: 'wit/daemon.wit',
  worldName: 'daemon',
  // What would be WASI, which no daemon is granted.
  disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event'],
});
await writeFile('{{wasm}}', component);
