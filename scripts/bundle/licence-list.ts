// THIRD_PARTY_LICENSES of the bundle and of dist: every part that is not ours, its version, the licence it declares and the licence
// texts it carries. Entry: licenceList. Equal texts stand once.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { InstalledPackage } from './production-packages.ts'

export interface Part {
  name: string
  version: string
  /** As declared: an SPDX expression. */
  licence: string
  /** Where it comes from. */
  source: string
  /** Whole texts; none where a package declares a licence and carries no text of it. */
  texts: string[]
}

export function partOfPackage(root: string, { path, name, version }: InstalledPackage): Part {
  const folder = join(root, path)
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    license?: string
    /** An older form. */
    licenses?: { type: string }[]
    homepage?: string
    repository?: string | { url?: string }
  }
  const { license, licenses, homepage, repository } = manifest
  const licence = license ?? licenses?.map(({ type }) => type).join(' OR ')
  if (licence === undefined) throw new Error(`${path} declares no licence`)
  const url = typeof repository === 'string' ? repository : repository?.url
  const texts = readdirSync(folder)
    .filter((file) => /^(licen[cs]e|notice|copying|copyright|thirdparty)/i.test(file))
    .sort()
    .map((file) => readFileSync(join(folder, file), 'utf8').trim())
  return { name, version, licence, source: url ?? homepage ?? `https://www.npmjs.com/package/${name}`, texts }
}

/** @param whole what the parts are of, in words */
export function licenceList(whole: string, parts: readonly Part[]): string {
  const numbers = new Map<string, number>()
  for (const text of parts.flatMap(({ texts }) => texts)) {
    if (!numbers.has(text)) numbers.set(text, numbers.size + 1)
  }
  const rows = parts.map(({ name, version, licence, source, texts }) => {
    const where =
      texts.length === 0 ? 'no text in the package' : `text ${texts.map((text) => numbers.get(text)).join(', ')}`
    return `${name} ${version}\n  ${licence}; ${where}\n  ${source}`
  })
  const texts = [...numbers].map(([text, number]) => `${'-'.repeat(80)}\nText ${number}\n\n${text}`)
  return [
    `Parts of ${whole} that others made, the licences they declare, and the texts of these licences.`,
    'Tensorpress itself is under the Apache License 2.0: see LICENSE.',
    ...rows,
    ...texts,
    '',
  ].join('\n\n')
}
