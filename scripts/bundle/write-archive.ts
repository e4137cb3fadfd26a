// A folder as .tar.xz with the same bytes for the same files: names in byte order, one time, one owner, plain modes, one thread.
// Entry: writeArchive. Needs GNU tar and xz.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { basename, dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'

/** 1980-01-01, the oldest time that every archive format can hold. */
const FIXED_TIME_S = 315_532_800

/** @param level of xz, 0 to 9; more than 6 needs minutes for one per cent. */
export function writeArchive(folder: string, archive: string, level: number): void {
  const time = process.env['SOURCE_DATE_EPOCH'] ?? String(FIXED_TIME_S)
  const tar = [
    ...['--create', '--format=gnu', '--sort=name', `--mtime=@${time}`, '--owner=0', '--group=0', '--numeric-owner'],
    ...['--mode=u=rwX,go=rX', '--directory', dirname(folder), basename(folder)],
  ]
  const script = 'set -o pipefail; archive=$1 level=$2; shift 2; tar "$@" | xz "-$level" --threads=1 > "$archive"'
  const run = spawnSync('bash', ['-c', script, 'bash', archive, String(level), ...tar], {
    env: { ...process.env, LC_ALL: 'C' },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (run.status !== 0)
    throw new Error(`tar and xz ended with ${run.status ?? run.error?.message}; are both installed?`)
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
