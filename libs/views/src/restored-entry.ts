import { RESTORE_ENTRY } from '#wire';
import type { Command, DataType } from './data-type.js';

/**
 * Puts the record's value as the state of a data type, which the argument names: how an entry that was exported comes back through the log. Who may
 * append batches may use it; gateways do not take it as a command, because a state that is none makes later commands on the entry fail.
 */
export const restoredEntry = (types: readonly DataType[]): DataType => {
  const names = new Set(
    types.filter((type) => (type.entries ?? 'own') === 'own' && type.name !== '').map(({ name }) => name),
  );
  const restore: Command = {
    arity: { min: 1, max: 1 },
    validate: ([type], { value }) => {
      if (value === null) return 'there is no value to put';
      return names.has(type.toString())
        ? null
        : `there is no data type ${JSON.stringify(type.toString().slice(0, 64))}`;
    },
    apply: (_state, [type], { value }) => ({ effect: 'put', value: value!, dataType: type.toString() }),
  };
  return { name: '', commands: { [RESTORE_ENTRY]: restore } };
};
