"""python -m pipelines.registry"""

from pipelines.registry.command import main

if __name__ == "__main__":
    main()
