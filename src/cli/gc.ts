// tensorpress gc: removes what has expired from a data folder that no server holds, or says what would go.

import type { GarbageReport } from '../jobs/collect-garbage.ts'
import type { Command, CommandLine } from './command.ts'
import { interruptible } from './interrupt.ts'
import { JSON_OPTION } from './shared-options.ts'
import { bytesText, tableLines } from './text-table.ts'

export const command: Command = {
  name: 'gc',
  summary: 'remove what has expired from a data folder that no server uses',
  description: [
    'Models, datasets, artifacts and ended jobs that the retention settings no longer keep, and what a crash left behind (half uploads, files without a row). The settings come from the environment as for serve (TENSORPRESS_STORE_BYTES, TENSORPRESS_ARTIFACT_MAX_AGE_HOURS and the others: docs/operations.md); give gc the same. A running server does all of this by itself, and holds the folder: gc then says so and exits with status 2.',
  ],
  positionals: [],
  options: {
    'data-dir': { value: 'DIR', summary: 'the data folder (default ./data)' },
    'dry-run': { summary: 'change nothing: say what would go, why, and how many bytes' },
    json: JSON_OPTION,
  },
  examples: [
    { line: 'tensorpress gc --dry-run', meaning: 'what would go from ./data' },
    {
      line: 'TENSORPRESS_STORE_BYTES=50000000000 tensorpress gc --data-dir /srv/tensorpress',
      meaning: 'down to 50 GB, least recently used first',
    },
  ],
  run: (args: CommandLine) =>
    interruptible(async () => {
      const [{ loadConfig }, { collectGarbage }] = await Promise.all([
        import('../config.ts'),
        import('../jobs/collect-garbage.ts'),
      ])
      const config = loadConfig(process.env, { dataDir: args.text('data-dir') })
      const report = await collectGarbage(config.dataDir, config.retention, args.given('dry-run'))
      const text = args.given('json') ? JSON.stringify(report) : reportLines(report).join('\n')
      process.stdout.write(`${text}\n`)
      return 0
    }),
}

const ORPHANS: Record<string, string> = { temporary: 'half upload or attempt', blob: 'file without a row' }

function reportLines({ dataDir, dryRun, storedBytes, leftBytes, storeBytes, items, bytes }: GarbageReport): string[] {
  const cap = storeBytes === null ? 'no cap' : `cap ${bytesText(storeBytes)}`
  const head = `${dataDir}: ${bytesText(storedBytes)} stored (${cap})`
  const over = storeBytes === null ? 0 : leftBytes - storeBytes
  const rest =
    over <= 0
      ? []
      : [`${bytesText(over)} over the cap remain: in use by a job, used within the grace, or reports of kept jobs.`]
  if (items.length === 0) return [head, dryRun ? 'Nothing would be removed.' : 'Nothing was removed.', ...rest]
  const rows = items.map(({ kind, id, reason, sizeBytes, lastUsedAt }) => [
    kind,
    id,
    reason === 'orphan' ? (ORPHANS[kind] ?? `${kind} without a row`) : reason,
    lastUsedAt === null ? '' : lastUsedAt.slice(0, 19),
    bytesText(sizeBytes),
  ])
  const columns = [
    { title: 'what' },
    { title: 'id', maxWidth: 40 },
    { title: 'why' },
    { title: 'last used (UTC)' },
    { title: 'bytes', align: 'right' as const },
  ]
  const total = `${items.length} ${items.length === 1 ? 'item' : 'items'}, ${bytesText(bytes)}`
  return [
    head,
    '',
    ...tableLines(columns, rows),
    '',
    dryRun ? `${total} would be removed.` : `${total} removed.`,
    ...rest,
  ]
}
