from evaluate.rate.comparison import main

if __name__ == "__main__":
    main()
