// Makes daemon.js the component {{wasm}}: the engine runs it once, and what that left in memory is part of it.
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  sourcePath: 'daemon.js',
  witPath: 'wit/daemon.wit',
  worldName: 'daemon',
  // No daemon is granted HTTP.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile('{{wasm}}', component);
