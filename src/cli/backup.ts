// tensorpress backup: a consistent copy of a data folder, also while a server uses it.

import type { BackupReport } from '../store/back-up.ts'
import type { Command, CommandLine } from './command.ts'
import { interruptible } from './interrupt.ts'
import { JSON_OPTION } from './shared-options.ts'
import { bytesText, printable } from './text-table.ts'

export const command: Command = {
  name: 'backup',
  summary: 'copy a data folder, also one that a server is using',
  description: [
    'The catalogue as it is at one instant, and every file that it names. The copy is a data folder: to restore it, start a server on it or on a copy of it. Into the same DIR again, only new files are copied; the older catalogue is replaced when everything else is there. Uploads and working files in progress are not part of it.',
  ],
  positionals: [{ name: 'DIR', summary: 'where the copy goes; a folder of its own', required: true }],
  options: {
    'data-dir': { value: 'DIR', summary: 'the data folder (default ./data)' },
    json: JSON_OPTION,
  },
  examples: [
    { line: 'tensorpress backup --data-dir /srv/tensorpress /backup/tensorpress', meaning: 'nightly, from cron' },
  ],
  run: (args: CommandLine) =>
    interruptible(async () => {
      const [{ loadConfig }, { backUp }] = await Promise.all([import('../config.ts'), import('../store/back-up.ts')])
      const { dataDir } = loadConfig(process.env, { dataDir: args.text('data-dir') })
      const report = await backUp(dataDir, args.positionals[0]!)
      const text = args.given('json') ? JSON.stringify(report) : reportLines(report).join('\n')
      process.stdout.write(`${text}\n`)
      return 0
    }),
}

function reportLines({ to, files, bytes, copiedFiles, vanished }: BackupReport): string[] {
  return [
    `${printable(to)}: ${files} files, ${bytesText(bytes)} (${copiedFiles} copied now) and the catalogue`,
    ...vanished.map((path) => `deleted before it was copied: ${printable(path)}`),
  ]
}
