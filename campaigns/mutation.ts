// Mutation: takes the guards of guards.ts away, one at a time, in a copy of the tree, and sees that the named test fails. A guard
// whose text is not found has drifted; one whose test stays green is not tested. First every named test must pass on the
// untouched copy, so that a red one means something. Entry: mutationCampaign.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { CampaignOptions, CampaignResult } from './campaign.ts'
import { GUARDS, type Guard } from './guards.ts'
import { runTests, type TestRun } from './run-tests.ts'

const ROOT = join(import.meta.dirname, '..')
/** Installed, large, and the same for both: linked. */
const LINKED = ['node_modules', '.tools', '.venv']
const TEST_MS = 90_000

export interface MutationSettings {
  /** Only the guards marked short. */
  short: boolean
}

export async function mutationCampaign(
  options: CampaignOptions,
  { short }: MutationSettings,
  guards: readonly Guard[] = GUARDS.filter((guard) => !short || guard.short === true),
): Promise<CampaignResult> {
  const tree = join(options.folder, 'tree')
  copyTree(tree)
  const findings: string[] = []
  const sound = guards.filter((guard) => {
    const count = occurrences(tree, guard)
    if (count !== 1) findings.push(`${guard.file}: the text of "${guard.promise}" stands ${count} times, not once`)
    return count === 1
  })

  let noticed = 0
  for (const guard of sound) {
    const { promise, test } = guard
    const before = await runTest(tree, guard)
    if (before.failed.length > 0 || !before.passed.some((name) => isNamed(name, test.name))) {
      findings.push(
        `${promise}: ${test.file} "${test.name}" does not pass on the untouched tree: ${JSON.stringify(before)}`,
      )
      continue
    }
    const path = join(tree, guard.file)
    const original = readFileSync(path, 'utf8')
    writeFileSync(
      path,
      original.replace(guard.text, () => guard.without),
    )
    const after = await runTest(tree, guard)
    writeFileSync(path, original)
    const red = after.failed.some((name) => isNamed(name, test.name))
    if (red) noticed++
    else findings.push(`${promise}: without it ${test.file} "${test.name}" does not fail: ${JSON.stringify(after)}`)
    options.log(`${red ? 'noticed' : 'NOT NOTICED'}: ${promise}`)
  }
  return {
    settings: { guards: guards.length },
    figures: [
      { name: 'guards taken away', value: guards.length, unit: 'count', goal: { atLeast: 1 } },
      {
        name: 'guards whose named test failed without them',
        value: noticed,
        unit: 'count',
        goal: { atLeast: guards.length },
      },
    ],
    findings,
    device: null,
  }
}

/** Everything that git knows or would add, as it is in the working tree. */
function copyTree(to: string): void {
  const list = ['ls-files', '--cached', '--others', '--exclude-standard', '-z']
  const files = execFileSync('git', list, { cwd: ROOT, encoding: 'utf8' }).split('\0')
  for (const file of files) {
    if (file === '' || !existsSync(join(ROOT, file))) continue
    mkdirSync(dirname(join(to, file)), { recursive: true })
    cpSync(join(ROOT, file), join(to, file), { verbatimSymlinks: true })
  }
  for (const name of LINKED) if (existsSync(join(ROOT, name))) symlinkSync(join(ROOT, name), join(to, name))
}

function occurrences(tree: string, { file, text: wanted }: Guard): number {
  const path = join(tree, file)
  return existsSync(path) && wanted !== '' ? readFileSync(path, 'utf8').split(wanted).length - 1 : 0
}

/** A test that runs on two devices carries the device behind its name. */
function isNamed(found: string, name: string): boolean {
  return found === name || (found.startsWith(name) && /^ \[.+\]$/.test(found.slice(name.length)))
}

function runTest(tree: string, { test }: Guard): Promise<TestRun> {
  return runTests({ root: tree, files: [test.file], name: test.name, testMs: TEST_MS })
}
