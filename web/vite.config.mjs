// Builds the page into one self-contained file, dist/index.html: script and style inlined, a policy
// that admits this very script and nothing from elsewhere, and the licences of what it contains.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { defineConfig } from 'vite';

const contained = ['preact', 'uplot'];

function notices() {
  const texts = contained.map((name) => {
    const of = (file) => readFileSync(new URL(`node_modules/${name}/${file}`, import.meta.url), 'utf8');
    return `${name} ${JSON.parse(of('package.json')).version}\n\n${of('LICENSE').trim()}`;
  });
  return `This file contains:\n\n${texts.join('\n\n')}\n`.replaceAll('--', '- -');
}

function oneFile() {
  return {
    name: 'one-file',
    enforce: 'post',
    generateBundle(_, bundle) {
      const parts = Object.values(bundle);
      const page = parts.find((part) => part.fileName.endsWith('.html'));
      const scripts = parts.filter((part) => part.type === 'chunk');
      const styles = parts.filter((part) => part.fileName.endsWith('.css'));
      if (scripts.length !== 1) throw new Error(`expected one script, got ${scripts.length}`);
      // Inside a script element these would end it, or begin a comment.
      const script = scripts[0].code.trim().replaceAll('</script', '<\\/script').replaceAll('<!--', '\\x3c!--');
      const style = styles.map((part) => part.source.toString().trim()).join('\n');
      if (style.includes('</style')) throw new Error('the style would end its element');
      const hash = createHash('sha256').update(script).digest('base64');
      // 'self' is for the data beside the page and, when drrik serves it, for the API; opened from
      // disk no address of the network matches anything here.
      const policy =
        `default-src 'none'; script-src 'self' 'sha256-${hash}'; style-src 'unsafe-inline'; ` +
        `img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'`;
      let html = page.source.toString();
      html = html.replace(/\s*<script type="module"[^>]*><\/script>/, '');
      html = html.replace(/\s*<link rel="stylesheet"[^>]*>/g, '');
      html = html.replace('<meta charset="utf-8">', () =>
        `<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="${policy}">`);
      html = html.replace('<!--drrik-data-->', () =>
        `<link rel="icon" href="data:,">\n<style>${style}</style>\n<!--drrik-data-->`);
      html = html.replace('</body>', () => `<script>${script}</script>\n</body>`);
      page.source = `${html.trim()}\n<!--\n${notices()}-->\n`;
      for (const part of parts) {
        if (part !== page) delete bundle[part.fileName];
      }
    },
  };
}

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    target: 'es2021',
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 1 << 20,
    reportCompressedSize: false,
    rollupOptions: { output: { format: 'iife', inlineDynamicImports: true } },
  },
  plugins: [oneFile()],
});
