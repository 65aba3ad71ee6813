// The console is built into the hub's Python package. Nothing is inlined: the hub serves it under
// Content-Security-Policy "default-src 'self'", which forbids inline scripts, inline styles and data: URLs.
import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../edgewise_hub/console_dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  server: { host: "127.0.0.1", proxy: { "/api": "http://127.0.0.1:8470" } },
});
