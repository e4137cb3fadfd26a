import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backportsSource, judgeDriver, mesaMajor, planInstallation, readSystem } from '../../scripts/vulkan.mjs'

type Facts = ReturnType<typeof readSystem>

const LAVAPIPE = { path: '/usr/share/vulkan/icd.d/lvp_icd.json', library: 'libvulkan_lvp.so' }
const RADEON = { path: '/usr/share/vulkan/icd.d/radeon_icd.json', library: 'libvulkan_radeon.so' }
const PANFROST = { path: '/usr/share/vulkan/icd.d/panfrost_icd.json', library: 'libvulkan_panfrost.so' }
const NVIDIA = { path: '/etc/vulkan/icd.d/nvidia_icd.json', library: 'libGLX_nvidia.so.0' }

/** The apt entry of a stock Debian 12. */
const BOOKWORM = `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`

const debian12: Facts = {
  platform: 'linux',
  loader: true,
  drivers: [LAVAPIPE, RADEON],
  gpus: [],
  mesaVersion: '25.0.7-2~bpo12+1',
  distribution: 'debian',
  distributionVersion: '12',
  codename: 'bookworm',
  apt: true,
  root: true,
  sources: BOOKWORM,
}

test('lavapipe of Mesa 24 and later is accepted, 22.3 is not', () => {
  assert.deepEqual(judgeDriver(debian12), { usable: true, driver: 'lavapipe, Mesa 25.0.7-2~bpo12+1' })
  const stock = judgeDriver({ ...debian12, mesaVersion: '22.3.6-1+deb12u1' })
  assert.equal(stock.usable, false)
  assert.match(stock.driver, /lavapipe is Mesa 22\.3\.6-1\+deb12u1; Dawn needs Mesa 24 or later/)
})

test('a GPU driver counts only where the GPU it is for is', () => {
  const old = { ...debian12, mesaVersion: '22.3.6-1+deb12u1' }
  const usable = (changes: Partial<Facts>) => judgeDriver({ ...old, ...changes }).usable
  assert.equal(usable({ gpus: ['0x1002'] }), true)
  assert.equal(usable({ gpus: ['0x8086'] }), false)
  assert.equal(usable({ drivers: [NVIDIA] }), false)
  assert.equal(usable({ drivers: [NVIDIA], gpus: ['0x10de'] }), true)
  assert.equal(usable({ gpus: ['other'] }), false)
  assert.equal(usable({ gpus: ['other'], drivers: [RADEON, PANFROST] }), true)
})

test('no loader, no driver', () => {
  assert.match(judgeDriver({ ...debian12, loader: false }).driver, /libvulkan\.so\.1/)
  assert.equal(judgeDriver({ ...debian12, drivers: [] }).usable, false)
})

test('macOS and Windows bring their own graphics API', () => {
  assert.equal(judgeDriver({ ...debian12, platform: 'darwin', loader: false, drivers: [] }).usable, true)
})

test('reads the major version with an epoch and without', () => {
  assert.deepEqual(['25.0.7-2~bpo12+1', '1:24.2.8-1ubuntu1', 'nonsense'].map(mesaMajor), [25, 24, 0])
})

test('Debian 12 gets backports from the mirror that is configured', () => {
  assert.deepEqual(planInstallation(debian12), {
    possible: true,
    sourceFile: `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`,
    install: [
      'install',
      '--yes',
      '--no-install-recommends',
      '-t',
      'bookworm-backports',
      'mesa-vulkan-drivers',
      'libvulkan1',
    ],
    unattended: true,
  })
})

test('a backports entry that is there already is not added again, a commented one is not one', () => {
  const there = `${BOOKWORM}\n\ndeb http://mirror.example/debian bookworm-backports main\n`
  const plan = planInstallation({ ...debian12, sources: there })
  assert.equal(plan.possible && plan.sourceFile, null)
  const off = `${BOOKWORM}\n\n# deb http://mirror.example/debian bookworm-backports main\n`
  const other = planInstallation({ ...debian12, sources: off })
  assert.notEqual(other.possible && other.sourceFile, null)
})

test('one-line sources give mirror and key as well', () => {
  const text = backportsSource(
    'deb [arch=amd64 signed-by=/k.gpg] https://m.example/debian bookworm main\n',
    'bookworm-backports',
  )
  assert.ok(text)
  assert.match(text, /^URIs: https:\/\/m\.example\/debian$/m)
  assert.match(text, /^Signed-By: \/k\.gpg$/m)
})

test('without an entry of the release there is no mirror to reuse, and nothing is guessed', () => {
  const plan = planInstallation({ ...debian12, sources: '' })
  assert(!plan.possible)
  assert.match(plan.advice, /add bookworm-backports of your Debian mirror/)
})

test('Debian 13 and Ubuntu 24.04 take their stock packages', () => {
  for (const [distribution, distributionVersion] of [
    ['debian', '13'],
    ['ubuntu', '24.04'],
  ] as const) {
    const plan = planInstallation({ ...debian12, distribution, distributionVersion, codename: '' })
    assert(plan.possible)
    assert.equal(plan.sourceFile, null)
    assert.deepEqual(plan.install, ['install', '--yes', '--no-install-recommends', 'mesa-vulkan-drivers', 'libvulkan1'])
  }
})

test('releases without a good package and systems without apt get advice, not commands', () => {
  const focal = planInstallation({ ...debian12, distribution: 'ubuntu', distributionVersion: '22.04' })
  assert(!focal.possible)
  assert.match(focal.advice, /ubuntu 22\.04 has no package of Mesa 24 or later/)
  const fedora = planInstallation({ ...debian12, distribution: 'fedora', apt: false })
  assert(!fedora.possible)
})

test('without root the plan is for a person to carry out', () => {
  const plan = planInstallation({ ...debian12, root: false })
  assert.equal(plan.possible && plan.unattended, false)
})

test('reads this machine without touching it', () => {
  const facts = readSystem(true)
  assert.equal(facts.platform, process.platform)
  assert.equal(typeof judgeDriver(facts).usable, 'boolean')
})
