// Counts the lines of its channel, and never forgets the count.
import { receive } from 'duende:daemon/channel@0.2.0';
import { write } from 'duende:daemon/log@0.2.0';
import { gaugeSet } from 'duende:daemon/metric@0.2.0';
import { get, set } from 'duende:daemon/state@0.2.0';

// Most messages that one slice takes, and where the count lies in `state`, in decimal.
const MESSAGES_MAX = 100;
const KEY = 'lines';

let lines = 0n;

// `lifecycle` is the interface that a daemon exports. What a function throws is the `err` of its result.
export const lifecycle = {
  init() {
    const kept = get(KEY);
    lines = kept === undefined ? 0n : BigInt(new TextDecoder().decode(kept));
    write('info', `going on from line ${lines}`);
  },

  // One slice. Either all of it counts, what was received and what was written too, or nothing does.
  run(_wake) {
    const messages = receive('lines', MESSAGES_MAX);
    // A line that is longer than a message may be comes in parts, and is one line all the same.
    lines += BigInt(messages.filter(({ part }) => part === 'whole' || part === 'first').length);
    if (messages.length > 0) {
      set(KEY, new TextEncoder().encode(lines.toString()));
      gaugeSet('lines', Number(lines));
    }
    return { tag: messages.length === MESSAGES_MAX ? 'again' : 'wait' };
  },

  shutdown(_deadline) {
    return { tag: 'exit', val: { code: 0, text: '' } };
  },

  healthCheck() {
    return { status: 'healthy', detail: '', checks: [] };
  },

  metrics() {
    return [];
  },
};
