"""`python -m mpfora.child.zygote`: the zygote's process."""

from mpfora.child.zygote.start import main

if __name__ == "__main__":
    main()
