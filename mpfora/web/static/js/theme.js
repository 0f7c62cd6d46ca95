// Before the first paint: the theme that was chosen here, so that nothing flashes.
(() => {
  const theme = localStorage.getItem("mpfora-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
