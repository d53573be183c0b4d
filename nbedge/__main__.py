"""`python -m nbedge` is the command `nbedge`."""

if __name__ == "__main__":
    from nbedge.cli import main

    main()
