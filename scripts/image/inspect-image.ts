// What lies in the image and must not: binaries for other machines, source maps, development packages, package managers'
// leftovers, files that the image's user could change. Entry: inspectImage, which returns the findings; none is good.

import * as fs from 'node:fs'
import { join } from 'node:path'
import type { ImageConfig } from './dockerfile.ts'

/** e_machine of the ELF header. */
const MACHINES: Record<string, number> = { x64: 62, arm64: 183 }

export function inspectImage(root: string, config: ImageConfig, developmentPackages: readonly string[]): string[] {
  const findings: string[] = []
  const say = (path: string, why: string) => findings.push(`${path.slice(root.length)}: ${why}`)
  const [uid, gid] = config.user.split(':').map(Number)
  const machine = MACHINES[process.arch]

  for (const entry of fs.readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    // Devices are the engine's own, and a link is judged where it leads.
    if (!entry.isFile() && !entry.isDirectory()) continue
    const stat = fs.lstatSync(path)
    const inVolume = config.volumes.some((volume) => `${path.slice(root.length)}/`.startsWith(`${volume}/`))
    const forAll = (stat.mode & 0o002) !== 0 && (stat.mode & 0o1000) === 0
    const own = stat.uid === uid || stat.gid === gid
    if (!inVolume && (own || forAll)) say(path, 'the user of the image could change it')
    if ((stat.mode & 0o6000) !== 0 && path.slice(root.length).startsWith('/app')) say(path, 'set-uid or set-gid')
    if (!entry.isFile()) continue
    const found = elfMachine(path)
    if (found !== null && found !== machine) say(path, `machine code for another machine (ELF machine ${found})`)
    if (path.startsWith(join(root, 'app'))) {
      if (/\.map$|\.d\.[mc]?ts$/.test(entry.name)) say(path, 'a source map or typings')
      if (/\.(dylib|dll|exe)$/i.test(entry.name)) say(path, 'a binary of another system')
    }
  }
  for (const folder of developmentPackages) {
    const path = join(root, 'app', folder)
    if (fs.existsSync(path)) say(path, 'a development package')
  }
  for (const name of ['npm', 'npx', 'yarn']) {
    const path = join(root, 'usr', 'local', 'bin', name)
    if (fs.existsSync(path)) say(path, 'a package manager')
  }
  for (const folder of ['var/lib/apt/lists', 'var/cache/apt']) {
    if (fs.readdirSync(join(root, folder)).length > 0) say(join(root, folder), 'is not empty')
  }
  return findings
}

function elfMachine(path: string): number | null {
  const file = fs.openSync(path, 'r')
  try {
    const head = Buffer.alloc(20)
    if (fs.readSync(file, head, 0, 20, 0) < 20 || head.readUInt32BE(0) !== 0x7f454c46) return null
    return head.readUInt16LE(18)
  } finally {
    fs.closeSync(file)
  }
}
