// Who stops what a campaign started, also when it fails half-way: work registered with `after` is done in reverse order.
// Entry: withOwner.

import type { Owner } from '../test/support/server-process.ts'

export async function withOwner<T>(work: (owner: Owner) => Promise<T>): Promise<T> {
  const endings: (() => unknown)[] = []
  const owner: Owner = { after: (ending) => void endings.push(ending as () => unknown) }
  try {
    return await work(owner)
  } finally {
    for (const ending of endings.reverse()) await ending()
  }
}
