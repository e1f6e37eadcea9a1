// Pictures of every view, for looking at: node shots.mjs OUT [DASHBOARD-FOLDER]
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { axe, launch, openPage } from './browser.mjs';
import { makeFixture } from './make_fixture.mjs';
import { startMock } from './mock_server.mjs';

const out = process.argv[2];
mkdirSync(out, { recursive: true });
let folder = process.argv[3];
if (!folder) {
  folder = mkdtempSync(join(tmpdir(), 'drrik-page-'));
  makeFixture(folder);
}
const mock = await startMock({ dashboard: folder });
const browser = await launch();
const views = { overview: '#/', list: '#/features?sort=-max', search: '#/features?q=cat', feature: '#/feature/40', dead: '#/feature/5', runs: '#/runs' };
const sizes = { light: {}, dark: { colorScheme: 'dark' }, narrow: { width: 380, height: 780 } };
for (const [size, options] of Object.entries(sizes)) {
  for (const [view, hash] of Object.entries(views)) {
    const page = await openPage(browser, mock.url + hash, options);
    await page.waitForTimeout(700);
    await page.screenshot({ path: join(out, `${view}-${size}.png`) });
    for (const line of [...page.errors, ...(await axe(page))]) console.log(view, size, line);
    await page.context().close();
  }
  const page = await openPage(browser, `${mock.url}#/playground`, options);
  await page.fill('#read-text', 'The old captain went down to the river in the morning, and the light was new.');
  await page.click('.reading button[type=submit]');
  await page.waitForSelector('.near.pick li');
  for (const add of (await page.$$('.near.pick .square')).slice(0, 2)) await add.click();
  await page.fill('[aria-label="Factors of the strengths to compare"]', '0.5, 1');
  await page.click('.writing button[type=submit]');
  await page.waitForFunction(() => [...document.querySelectorAll('.written footer')].length === 3 && !document.querySelector('.caret'));
  await page.waitForTimeout(4200);
  await page.screenshot({ path: join(out, `playground-${size}.png`), fullPage: false });
  await page.evaluate(() => document.querySelector('.steering').scrollIntoView());
  await page.screenshot({ path: join(out, `steer-${size}.png`) });
  for (const line of [...page.errors, ...(await axe(page))]) console.log('playground', size, line);
  await page.context().close();
}
await browser.close();
await mock.close();
